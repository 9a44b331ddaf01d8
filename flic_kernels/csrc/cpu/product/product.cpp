#include "cpu/product/product.h"

#include <type_traits>

#include "cpu/kernels.h"

namespace flic::cpu {
namespace {

constexpr int kVector = 16;

ptrdiff_t round_up(ptrdiff_t n, ptrdiff_t multiple) {
    return (n + multiple - 1) / multiple * multiple;
}

template <class In>
const ProductKernels<In>& products_of() {
    if constexpr (std::is_same_v<In, float>) {
        return kernels().products;
    } else {
        return kernels().bfloat16_products;
    }
}

}  // namespace

template <class In>
BasicProduct<In>::BasicProduct(int outputs, int channels, int taps, int parts, int interleaved,
                               int groups)
    : kernels_(products_of<In>()), channels_(channels), taps_(taps), interleaved_(interleaved) {
    const int group_outputs = outputs / groups;
    const int group_vectors = (group_outputs + kVector - 1) / kVector;
    const ptrdiff_t length = static_cast<ptrdiff_t>(taps) * channels / parts;
    const ptrdiff_t padded_length = round_up(length, kernels_.depth_multiple);
    const size_t columns = static_cast<size_t>(groups) * group_vectors * kVector;
    const size_t bytes = columns * parts * padded_length * kernels_.weight_size;
    weights_ = Floats(bytes / sizeof(float), Floats::Fill::none);
    bias_ = Floats(columns);
    panels_ = {length,        padded_length, parts,          groups,
               group_outputs, group_vectors, weights_.get(), bias_.get()};
}

// The torch weight's output that a column of a group is.
template <class In>
int BasicProduct<In>::source(int group, int column) const {
    const int n = group * panels_.group_outputs + column;
    const int each = outputs() / interleaved_;
    return n % each * interleaved_ + n / each;
}

// The task for one vector of columns, its source left open.
template <class In>
PackTask BasicProduct<In>::task(int group, int vector) const {
    const PanelSpan span = panel_span(panels_.group_vectors, vector, kernels_.panel_vectors);
    const size_t before = static_cast<size_t>(group) * panels_.group_vectors + span.begin;
    const size_t depth = panels_.parts * panels_.padded_length;
    PackTask t = {};
    t.channels = channels_;
    t.taps = taps_;
    t.panels = panels_;
    t.panel =
        reinterpret_cast<char*>(weights_.get()) + before * kVector * depth * kernels_.weight_size;
    t.column = (vector - span.begin) * kVector;
    t.width = span.vectors * kVector;
    return t;
}

template <class In>
void BasicProduct<In>::pack_bias(const float* bias) {
    if (!bias) return;
    for (int group = 0; group < panels_.groups; ++group) {
        float* const to =
            bias_.get() + static_cast<size_t>(group) * panels_.group_vectors * kVector;
        for (int n = 0; n < panels_.group_outputs; ++n) to[n] = bias[source(group, n)];
    }
}

template <class In>
void BasicProduct<In>::pack(const In* weight, const float* bias, Pool& pool) {
    pack_bias(bias);
    const size_t depth = static_cast<size_t>(channels_) * taps_;
    pool.run(panels_.groups * panels_.group_vectors, [&](int item, int) {
        const int group = item / panels_.group_vectors, vector = item % panels_.group_vectors;
        const void* from[kVector];
        for (int i = 0; i < kVector; ++i) {
            const int n = vector * kVector + i;
            from[i] = n < panels_.group_outputs ? weight + source(group, n) * depth : nullptr;
        }
        PackTask t = task(group, vector);
        t.from = from;
        kernels_.pack(t);
    });
}

template <class In>
void BasicProduct<In>::pack_transposed(const In* weight, ptrdiff_t stride, const float* bias,
                                       Pool& pool) {
    pack_bias(bias);
    pool.run(panels_.group_vectors,
             [&](int vector, int) { pack_vector(vector, weight, stride, channels_); });
}

template <class In>
void BasicProduct<In>::pack_rows(const In* rows, ptrdiff_t stride, int count) {
    for (int v = 0; v < panels_.group_vectors; ++v) pack_vector(v, rows, stride, count);
}

// Sixteen columns of `count` rows; the other rows are zeros.
template <class In>
void BasicProduct<In>::pack_vector(int vector, const In* rows, ptrdiff_t stride, int count) {
    const int left = panels_.group_outputs - vector * kVector;
    PackTask t = task(0, vector);
    t.first = rows + vector * kVector;
    t.stride = stride;
    t.channels = count;
    t.count = left < kVector ? left : kVector;
    kernels_.pack_rows(t);
}

template class BasicProduct<float>;
template class BasicProduct<Bfloat16>;

}  // namespace flic::cpu
