// Window attention forward, for the instruction set of the including file.
//
// The window is gathered to lie densely; then, for each head and strip of 16 queries: scores,
// softmax, weighted values.
#pragma once
#include "attention_parts.h"

namespace {

// The scratch memory of one window.
struct Scratch {
    ptrdiff_t *source, *target;  // [keys]: tokens
    float* scores;               // [keys][strips together][16]
    float* lanes;                // [16][strips together][16]: queries, then results
    Gathered query, key, value;

    Scratch(const AttentionBranch& branch, float* memory)
        : source(reinterpret_cast<ptrdiff_t*>(memory)), target(source + branch.padded_keys()),
          scores(memory + 4 * branch.padded_keys()),
          lanes(scores + kMostStrips * branch.keys() * kStrip),
          query(branch, lanes + kMostStrips * kStrip * kStrip),
          key(branch, query.data + branch.gathered_size()),
          value(branch, key.data + branch.gathered_size()) {}
};

// S strips of one head from `strip` on.
template <int S>
void attend_strips(const AttentionBranch& branch, const AttentionWindow& w, const Scratch& scratch,
                   int head, int strip) {
    const int keys = branch.keys(), dim = branch.dim, start = strip * kStrip;
    const int queries = keys - start < kStrip ? keys - start : kStrip;  // of a strip
    const ptrdiff_t channel = static_cast<ptrdiff_t>(head) * dim;
    const Lanes scale = Lanes::set(kLog2E / __builtin_sqrtf(static_cast<float>(dim)));
    Bias bias = strip_bias(branch, branch.bias, head, strip);
    Lanes greatest[S], sum[S], inverse[S];
    for (int first = 0; first < dim; first += kStrip) {
        const int dims = dim - first < kStrip ? dim - first : kStrip;
        for (int s = 0; s < S; ++s) {
            Lanes query[kLanes];
            load_lanes(scratch.query.at(head, first) + (start + s * kStrip) * dims, queries, dims,
                       query);
            for (int d = 0; d < dims; ++d) {
                Lanes::mul(query[d], scale).store(scratch.lanes + (d * S + s) * kStrip);
            }
        }
        kDims<S>[dims - 1].scores(scratch.lanes, scratch.key.at(head, first), bias, scratch.scores,
                                  greatest);
        bias = {scratch.scores, 1, keys, 0, S * kStrip, kStrip};  // the next dimensions add to it
    }
    exponentials<S>(scratch.scores, keys, greatest, sum);
    for (int s = 0; s < S; ++s) inverse[s] = Lanes::div(Lanes::set(1.0f), sum[s]);
    for (int first = 0; first < dim; first += kStrip) {
        const int dims = dim - first < kStrip ? dim - first : kStrip;
        kDims<S>[dims - 1].values(scratch.scores, scratch.value.at(head, first), keys,
                                  scratch.lanes);
        for (int s = 0; s < S; ++s) {
            Lanes result[kLanes];
            for (int d = 0; d < kLanes; ++d) {
                const float* const at = scratch.lanes + (d * S + s) * kStrip;
                result[d] = Lanes::mul(Lanes::load(at), inverse[s]);
            }
            scatter_lanes(result, queries, dims, scratch.target + start + s * kStrip, w.out_stride,
                          w.element, advance(w.out, w.element, channel + first));
        }
    }
    if (!w.lse) return;
    for (int s = 0; s < S; ++s) {
        store_first(w.lse + head * w.lse_stride + start + s * kStrip,
                    Lanes::add(greatest[s], log2_lanes(sum[s])), queries);
    }
}

void attend(const AttentionBranch& branch, const AttentionWindow& w) {
    const Scratch scratch(branch, w.scratch);
    window_tokens(branch, w, scratch.source, scratch.target);
    gather(branch, w.q, w.element, w.stride, scratch.source, scratch.query);
    gather(branch, w.k, w.element, w.stride, scratch.source, scratch.key);
    gather(branch, w.v, w.element, w.stride, scratch.source, scratch.value);
    for (int head = 0; head < branch.heads; ++head) {
        for_strips(branch, [&](auto together, int strip) {
            attend_strips<decltype(together)::value>(branch, w, scratch, head, strip);
        });
    }
}

}  // namespace
