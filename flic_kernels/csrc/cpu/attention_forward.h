// Window attention forward, for the instruction set of the including file.
//
// A head's keys and values are gathered to lie densely; then, for each strip of 16 queries: scores,
// softmax, weighted values.
#pragma once
#include "attention_parts.h"

namespace {

// The scratch memory of one window.
struct Scratch {
    ptrdiff_t *source, *target;  // [keys]: tokens
    float* scores;               // [keys][strips together][16]
    float* lanes;                // [16][strips together][16]: queries, then results
    float *key, *value;          // [keys][dims] for each 16 dimensions

    Scratch(const AttentionBranch& branch, float* memory) {
        const ptrdiff_t keys = branch.keys(), padded = (keys + 3) / 4 * 4;
        source = reinterpret_cast<ptrdiff_t*>(memory);
        target = source + padded;
        scores = memory + 4 * padded;
        lanes = scores + kMostStrips * keys * kStrip;
        key = lanes + kMostStrips * kStrip * kStrip;
        value = key + branch.dim * padded;
    }
};

// S strips of one head from `strip` on, its keys and values gathered.
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
            gather_lanes(advance(w.q, w.element, channel + first), w.element, w.stride,
                         scratch.source + start + s * kStrip, queries, dims, query);
            for (int d = 0; d < dims; ++d) {
                Lanes::mul(query[d], scale).store(scratch.lanes + (d * S + s) * kStrip);
            }
        }
        kDims<S>[dims - 1].scores(scratch.lanes, scratch.key + first * keys, bias, scratch.scores,
                                  greatest);
        bias = {scratch.scores, 1, keys, 0, S * kStrip, kStrip};  // the next dimensions add to it
    }
    exponentials<S>(scratch.scores, keys, greatest, sum);
    for (int s = 0; s < S; ++s) inverse[s] = Lanes::div(Lanes::set(1.0f), sum[s]);
    for (int first = 0; first < dim; first += kStrip) {
        const int dims = dim - first < kStrip ? dim - first : kStrip;
        kDims<S>[dims - 1].values(scratch.scores, scratch.value + first * keys, keys,
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
    for (int head = 0; head < branch.heads; ++head) {
        gather_keys(branch, w, head, scratch.source, scratch.key, scratch.value);
        for_strips(branch, [&](auto together, int strip) {
            attend_strips<decltype(together)::value>(branch, w, scratch, head, strip);
        });
    }
}

}  // namespace
