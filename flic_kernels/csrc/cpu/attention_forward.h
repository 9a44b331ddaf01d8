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
    float* scores;               // [keys][16]
    float* lanes;                // [16][16]: queries or results of one strip
    float *key, *value;          // [keys][dims] for each 16 dimensions

    Scratch(const AttentionBranch& branch, float* memory) {
        const ptrdiff_t keys = branch.keys(), padded = (keys + 3) / 4 * 4;
        source = reinterpret_cast<ptrdiff_t*>(memory);
        target = source + padded;
        scores = memory + 4 * padded;
        lanes = scores + keys * kStrip;
        key = lanes + kStrip * kStrip;
        value = key + branch.dim * padded;
    }
};

// One strip of one head, its keys and values gathered.
void attend_strip(const AttentionBranch& branch, const AttentionWindow& w, const Scratch& scratch,
                  int head, int strip) {
    const int keys = branch.keys(), dim = branch.dim, start = strip * kStrip;
    const int queries = keys - start < kStrip ? keys - start : kStrip;
    const ptrdiff_t channel = static_cast<ptrdiff_t>(head) * dim;
    const Lanes scale = Lanes::set(kLog2E / __builtin_sqrtf(static_cast<float>(dim)));
    Bias bias = strip_bias(branch, branch.bias, head, strip);
    Lanes greatest = Lanes::set(0.0f);
    for (int first = 0; first < dim; first += kStrip) {
        const int dims = dim - first < kStrip ? dim - first : kStrip;
        Lanes query[kLanes];
        gather_lanes(advance(w.q, w.element, channel + first), w.element, w.stride,
                     scratch.source + start, queries, dims, query);
        for (int d = 0; d < dims; ++d) {
            Lanes::mul(query[d], scale).store(scratch.lanes + d * kStrip);
        }
        greatest = kDims[dims - 1].scores(scratch.lanes, scratch.key + first * keys, bias,
                                          scratch.scores);
        bias = {scratch.scores, 1, keys, 0, kStrip};  // the next dimensions add to these
    }
    const Lanes sum = exponentials(scratch.scores, keys, greatest);
    const Lanes inverse = Lanes::div(Lanes::set(1.0f), sum);
    for (int first = 0; first < dim; first += kStrip) {
        const int dims = dim - first < kStrip ? dim - first : kStrip;
        kDims[dims - 1].values(scratch.scores, scratch.value + first * keys, keys, scratch.lanes);
        Lanes result[kLanes];
        for (int d = 0; d < kLanes; ++d) {
            result[d] = Lanes::mul(Lanes::load(scratch.lanes + d * kStrip), inverse);
        }
        scatter_lanes(result, queries, dims, scratch.target + start, w.out_stride, w.element,
                      advance(w.out, w.element, channel + first));
    }
    if (w.lse) {
        store_first(w.lse + head * w.lse_stride + start, Lanes::add(greatest, log2_lanes(sum)),
                    queries);
    }
}

void attend(const AttentionBranch& branch, const AttentionWindow& w) {
    const Scratch scratch(branch, w.scratch);
    window_tokens(branch, w, scratch.source, scratch.target);
    for (int head = 0; head < branch.heads; ++head) {
        gather_keys(branch, w, head, scratch.source, scratch.key, scratch.value);
        for (int strip = 0; strip < branch.strips(); ++strip) {
            attend_strip(branch, w, scratch, head, strip);
        }
    }
}

}  // namespace
