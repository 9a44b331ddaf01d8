// Window attention's kernels, compiled for each instruction set.
//
// Forward: the window is gathered to lie densely; then, for each head and strip of 16 queries:
// scores, softmax, weighted values.
//
// Backward: scores are computed again, strip by strip, and the weights follow from the log-sum-exp.
// The gradient of the queries has queries as lanes, like the forward pass; for those of keys and
// values weights are turned, 16 keys and queries at a time, so that keys are the lanes.
#include "cpu/window_attention/window_attention_parts.h"

namespace {

using flic::cpu::AttentionGradient;

// The scratch memory of one window.
struct Scratch {
    ptrdiff_t *source, *target;  // [keys]: tokens
    float* scores;               // [keys][strips together][16]
    float* lanes;                // [16][strips together][16]: queries, then results
    Gathered query, key, value;

    Scratch(const AttentionBranch& branch, float* memory)
        : source(reinterpret_cast<ptrdiff_t*>(memory)),
          target(source + branch.padded_keys()),
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

void attend_window(const AttentionBranch& branch, const AttentionWindow& w) {
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

// The scratch memory of one window. S strips go together. Where lanes are queries: [dims][S][16].
struct BackwardScratch {
    ptrdiff_t *source, *target;  // [keys]: tokens
    float *weights, *dscores;    // [keys][S][16], lanes are queries
    float *query, *grad;         // of the strips, lanes are queries
    float *dkey, *dvalue;        // [dims][whole strips], lanes are keys
    Gathered queries, keys, values, out, grads;

    BackwardScratch(const AttentionBranch& branch, float* memory)
        : source(reinterpret_cast<ptrdiff_t*>(memory)),
          target(source + branch.padded_keys()),
          weights(memory + 4 * branch.padded_keys()),
          dscores(weights + kMostStrips * branch.keys() * kStrip),
          query(dscores + kMostStrips * branch.keys() * kStrip),
          grad(query + kMostStrips * branch.padded_dim() * kStrip),
          dkey(grad + kMostStrips * branch.padded_dim() * kStrip),
          dvalue(dkey + branch.dim * branch.strip_tokens()),
          queries(branch, dvalue + branch.dim * branch.strip_tokens()),
          keys(branch, queries.data + branch.gathered_size()),
          values(branch, keys.data + branch.gathered_size()),
          out(branch, values.data + branch.gathered_size()),
          grads(branch, out.data + branch.gathered_size()) {}
};

// Turns strip s of S, its queries and its result's gradient; returns each query's sum of gradient
// times result.
template <int S>
Lanes turn_strip(const AttentionBranch& branch, const BackwardScratch& scratch, int head, int start,
                 int queries, int s) {
    const int dim = branch.dim;
    const Lanes scale = Lanes::set(kLog2E / __builtin_sqrtf(static_cast<float>(dim)));
    Lanes delta = Lanes::set(0.0f);
    for (int first = 0; first < dim; first += kStrip) {
        const int dims = dim - first < kStrip ? dim - first : kStrip;
        const ptrdiff_t row = static_cast<ptrdiff_t>(start) * dims;
        Lanes query[kLanes], grad[kLanes], out[kLanes];
        load_lanes(scratch.queries.at(head, first) + row, queries, dims, query);
        load_lanes(scratch.grads.at(head, first) + row, queries, dims, grad);
        load_lanes(scratch.out.at(head, first) + row, queries, dims, out);
        for (int d = 0; d < dims; ++d) {
            const ptrdiff_t place = (static_cast<ptrdiff_t>(first + d) * S + s) * kStrip;
            Lanes::mul(query[d], scale).store(scratch.query + place);
            grad[d].store(scratch.grad + place);
            delta = Lanes::fma(grad[d], out[d], delta);
        }
    }
    return delta;
}

// weights = 2^(score - lse); dscores, which hold the weights' gradients less delta, times weights.
template <int S>
void softmax_gradient(float* weights, float* dscores, int keys, const Lanes* lse) {
    for (int j = 0; j < keys; ++j) {
        FLIC_UNROLL for (int s = 0; s < S; ++s, weights += kStrip, dscores += kStrip) {
            const Lanes weight = exp2_lanes(Lanes::sub(Lanes::load(weights), lse[s]));
            weight.store(weights);
            Lanes::mul(weight, Lanes::load(dscores)).store(dscores);
        }
    }
}

// Adds dscores[keys][S][16] to the gradient of the prepared bias.
template <int S>
void add_bias_gradient(const Bias& bias, const float* dscores, float* dbias) {
    float* const first = dbias + (bias.first - dbias);
    // Column by column: rows lie apart, so that no load meets a store that is still under way.
    for (int column = 0; column < bias.columns; ++column) {
        for (int row = 0; row < bias.rows; ++row) {
            const float* const from = dscores + (row * bias.columns + column) * S * kStrip;
            float* const to = first + row * bias.row_step + column * bias.column_step;
            FLIC_UNROLL for (int s = 0; s < S; ++s) {
                float* const at = to + s * bias.strip_step;
                Lanes::add(Lanes::load(at), Lanes::load(from + s * kStrip)).store(at);
            }
        }
    }
}

template <int S>
void strips_backward(const AttentionBranch& branch, const AttentionGradient& g,
                     const BackwardScratch& scratch, int head, int strip) {
    const AttentionWindow& w = g.window;
    const int keys = branch.keys(), dim = branch.dim, start = strip * kStrip;
    const int queries = keys - start < kStrip ? keys - start : kStrip;
    float minus_delta[S * kLanes];
    Lanes lse[S], unused[S];
    for (int s = 0; s < S; ++s) {
        const int own = start + s * kStrip;
        const Lanes delta = turn_strip<S>(branch, scratch, head, own, queries, s);
        Lanes::sub(Lanes::set(0.0f), delta).store(minus_delta + s * kStrip);
        lse[s] = load_first(w.lse + head * w.lse_stride + own, queries);
    }
    Bias bias = strip_bias(branch, branch.bias, head, strip);
    Bias base = {minus_delta, 1, keys, 0, 0, kStrip};
    for (int first = 0; first < dim; first += kStrip) {
        const auto& dims = kDims<S>[(dim - first < kStrip ? dim - first : kStrip) - 1];
        const ptrdiff_t block = static_cast<ptrdiff_t>(first) * S * kStrip;
        dims.scores(scratch.query + block, scratch.keys.at(head, first), bias, scratch.weights,
                    unused);
        dims.scores(scratch.grad + block, scratch.values.at(head, first), base, scratch.dscores,
                    unused);
        bias = {scratch.weights, 1, keys, 0, S * kStrip, kStrip};  // the next dimensions add to it
        base = {scratch.dscores, 1, keys, 0, S * kStrip, kStrip};
    }
    softmax_gradient<S>(scratch.weights, scratch.dscores, keys, lse);
    add_bias_gradient<S>(strip_bias(branch, g.dbias, head, strip), scratch.dscores, g.dbias);
    const Lanes scale = Lanes::set(1.0f / __builtin_sqrtf(static_cast<float>(dim)));
    for (int first = 0; first < dim; first += kStrip) {
        const int dims = dim - first < kStrip ? dim - first : kStrip;
        const ptrdiff_t row = static_cast<ptrdiff_t>(start) * dims;
        kDims<S>[dims - 1].add_outer(scratch.weights, scratch.grads.at(head, first) + row, queries,
                                     keys, scratch.dvalue + first * branch.strip_tokens());
        kDims<S>[dims - 1].add_outer(scratch.dscores, scratch.queries.at(head, first) + row,
                                     queries, keys, scratch.dkey + first * branch.strip_tokens());
        kDims<S>[dims - 1].values(scratch.dscores, scratch.keys.at(head, first), keys,
                                  scratch.query);
        for (int s = 0; s < S; ++s) {
            Lanes result[kLanes];
            for (int d = 0; d < kLanes; ++d) {
                const float* const at = scratch.query + (d * S + s) * kStrip;
                result[d] = Lanes::mul(Lanes::load(at), scale);
            }
            scatter_lanes(result, queries, dims, scratch.source + start + s * kStrip, w.stride,
                          w.element,
                          advance(g.dq, w.element, static_cast<ptrdiff_t>(head) * dim + first));
        }
    }
}

// sums[dims][whole strips], times scale, to the keys' tokens.
void scatter_keys(const AttentionBranch& branch, const AttentionWindow& w,
                  const BackwardScratch& scratch, int head, const float* sums, Lanes scale,
                  void* to) {
    const int keys = branch.keys(), dim = branch.dim;
    for (int first = 0; first < dim; first += kStrip) {
        const int dims = dim - first < kStrip ? dim - first : kStrip;
        void* const channels = advance(to, w.element, static_cast<ptrdiff_t>(head) * dim + first);
        for (int start = 0; start < keys; start += kStrip) {
            Lanes turned[kLanes];
            for (int d = 0; d < kLanes; ++d) {
                turned[d] =
                    d < dims ? Lanes::mul(
                                   Lanes::load(sums + (first + d) * branch.strip_tokens() + start),
                                   scale)
                             : Lanes::set(0.0f);
            }
            const int tokens = keys - start < kStrip ? keys - start : kStrip;
            scatter_lanes(turned, tokens, dims, scratch.source + start, w.stride, w.element,
                          channels);
        }
    }
}

void attend_window_backward(const AttentionBranch& branch, const AttentionGradient& g) {
    const AttentionWindow& w = g.window;
    const Lanes scale = Lanes::set(1.0f / __builtin_sqrtf(static_cast<float>(branch.dim)));
    const BackwardScratch scratch(branch, w.scratch);
    window_tokens(branch, w, scratch.source, scratch.target);
    gather(branch, w.q, w.element, w.stride, scratch.source, scratch.queries);
    gather(branch, w.k, w.element, w.stride, scratch.source, scratch.keys);
    gather(branch, w.v, w.element, w.stride, scratch.source, scratch.values);
    gather(branch, w.out, w.element, w.out_stride, scratch.target, scratch.out);
    gather(branch, g.grad, w.element, w.out_stride, scratch.target, scratch.grads);
    for (int head = 0; head < branch.heads; ++head) {
        const size_t size = static_cast<size_t>(branch.dim * branch.strip_tokens());
        memset(scratch.dkey, 0, size * sizeof(float));
        memset(scratch.dvalue, 0, size * sizeof(float));
        for_strips(branch, [&](auto together, int strip) {
            strips_backward<decltype(together)::value>(branch, g, scratch, head, strip);
        });
        scatter_keys(branch, w, scratch, head, scratch.dkey, scale, g.dk);
        scatter_keys(branch, w, scratch, head, scratch.dvalue, Lanes::set(1.0f), g.dv);
    }
}

}  // namespace

namespace flic::cpu::FLIC_ISA {

const AttentionKernels window_attention = {attend_window, attend_window_backward};

}  // namespace flic::cpu::FLIC_ISA
