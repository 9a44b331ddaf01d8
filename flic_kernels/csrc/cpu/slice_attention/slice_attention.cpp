// Slice attention of whole tensors: the loop over groups and threads, and the C interface.
#include "cpu/slice_attention/slice_attention.h"

#include <new>

#include "base/floats.h"
#include "base/pool.h"
#include "cpu/kernels.h"
#include "include/flic_kernels.h"

namespace flic::cpu {
namespace {

constexpr ptrdiff_t kQueriesTogether = 4;

// Floats of `tokens` gathered tokens.
ptrdiff_t gathered(const SliceAttention& a, ptrdiff_t tokens) {
    return tokens * (a.positions + 1) * 16;
}

template <class Work>
void for_groups(const SliceAttention& a, ptrdiff_t scratch_size, int threads, const Work& work) {
    const ptrdiff_t own = (scratch_size + 15) / 16 * 16;
    const Floats scratch(static_cast<size_t>(threads * own), Floats::Fill::none);
    team(threads).run(static_cast<int>(a.groups()),
                      [&](int group, int worker) { work(a, group, scratch.get() + worker * own); });
}

}  // namespace

ptrdiff_t slice_attention_scratch(const SliceAttention& a) {
    return gathered(a, 2 * a.tokens + 2 * kQueriesTogether) + kQueriesTogether * a.tokens * 16;
}

ptrdiff_t slice_attention_backward_scratch(const SliceAttention& a) {
    const ptrdiff_t slice = a.slice();
    return gathered(a, 4 * a.tokens + 3 * slice) + 2 * slice * a.tokens * 16;
}

}  // namespace flic::cpu

// q, k, v and out [windows, positions, heads * tokens] of `element`; lse: null or [windows, heads *
// tokens].
FLIC_API int flic_slice_attention(const void* q, const void* k, const void* v, int element,
                                  void* out, float* lse, int64_t windows, int positions, int heads,
                                  int slices, int tokens, int threads) {
    using namespace flic::cpu;
    try {
        SliceAttention a = {};
        a.q = q, a.k = k, a.v = v, a.out = out, a.lse = lse;
        a.element = static_cast<Element>(element);
        a.windows = windows, a.positions = positions, a.heads = heads;
        a.slices = slices, a.tokens = tokens;
        for_groups(a, slice_attention_scratch(a), threads, kernels().slice_attention.attend);
        return FLIC_OK;
    } catch (const std::bad_alloc&) {
        return FLIC_OUT_OF_MEMORY;
    }
}

// From the forward call's inputs, its out and lse (both only read) and out's gradient: dq, dk, dv.
FLIC_API int flic_slice_attention_backward(const void* q, const void* k, const void* v, int element,
                                           void* out, float* lse, const void* grad, void* dq,
                                           void* dk, void* dv, int64_t windows, int positions,
                                           int heads, int slices, int tokens, int threads) {
    using namespace flic::cpu;
    try {
        SliceAttention a = {};
        a.q = q, a.k = k, a.v = v, a.out = out, a.lse = lse;
        a.grad = grad, a.dq = dq, a.dk = dk, a.dv = dv;
        a.element = static_cast<Element>(element);
        a.windows = windows, a.positions = positions, a.heads = heads;
        a.slices = slices, a.tokens = tokens;
        for_groups(a, slice_attention_backward_scratch(a), threads,
                   kernels().slice_attention.attend_backward);
        return FLIC_OK;
    } catch (const std::bad_alloc&) {
        return FLIC_OUT_OF_MEMORY;
    }
}
