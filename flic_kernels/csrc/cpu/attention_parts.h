// What window attention's two directions are made of, for the instruction set of the including
// file.
//
// Lanes are the 16 queries of a strip; keys and values are broadcast, one dimension at a time.
// Dimensions beyond 16 are taken 16 at a time.
#pragma once
#include "attention.h"
#include "elements.h"
#include "exponential.h"

namespace {

using flic::cpu::AttentionBranch;
using flic::cpu::AttentionKernels;
using flic::cpu::AttentionWindow;
using flic::cpu::kStrip;

static_assert(kStrip == kLanes, "a strip fills the lanes");

#if defined(FLIC_LANES_AVX512)
constexpr int kKeysAtOnce = 8;  // independent chains of a score
constexpr int kDimsAtOnce = 16;  // of the weighted values, one register each
#elif defined(FLIC_LANES_AVX2)
constexpr int kKeysAtOnce = 4;
constexpr int kDimsAtOnce = 6;
#else
constexpr int kKeysAtOnce = 2;
constexpr int kDimsAtOnce = 2;
#endif

// The bias of one strip and every key, keys row after row: 16 floats from each address.
struct Bias {
    const float* first;
    int rows, columns;
    ptrdiff_t row_step, column_step;
};

// Where `prepared` is the prepared bias, or its gradient.
Bias strip_bias(const AttentionBranch& branch, const float* prepared, int head, int strip) {
    const float* const bias = prepared + head * branch.bias_size();
    if (!branch.bias_from_table()) {
        return {bias + static_cast<ptrdiff_t>(strip) * branch.keys() * kStrip, 1, branch.keys(), 0,
                kStrip};
    }
    const int height = branch.window_height, width = branch.window_width;
    const int y = strip * kStrip / width, x = strip * kStrip % width;
    const ptrdiff_t row = 2 * width - 1;
    return {bias + (y + height - 1) * row + x + width - 1, height, width, -row, -1};
}

// Lanes are tokens: out[d], d < dims, from up to 16 tokens `at`; zero in the lanes beyond.
FLIC_INLINE void gather_lanes(const void* from, Element element, ptrdiff_t stride,
                              const ptrdiff_t* at, int tokens, int dims, Lanes (&out)[kLanes]) {
    for (int i = 0; i < kLanes; ++i) {
        out[i] = i < tokens ? load_elements(from, element, at[i] * stride, dims) : Lanes::set(0.0f);
    }
    transpose(out);
}

// The reverse: lane i of values[d] to token at[i]. `values` is overwritten.
FLIC_INLINE void scatter_lanes(Lanes (&values)[kLanes], int tokens, int dims, const ptrdiff_t* at,
                               ptrdiff_t stride, Element element, void* to) {
    transpose(values);
    for (int i = 0; i < kLanes; ++i) {
        if (i < tokens) store_elements(to, element, at[i] * stride, values[i], dims);
    }
}

// D dimensions of one head.
template <int D>
struct Dims {
    // [tokens][D] from the tokens `at`.
    static void gather(const void* from, Element element, ptrdiff_t stride, const ptrdiff_t* at,
                       int tokens, float* to) {
        for (int n = 0; n < tokens; ++n, to += D) {
            if (element == Element::float32) {
                memcpy(to, static_cast<const float*>(from) + at[n] * stride, D * sizeof(float));
            } else {
                store_first(to, load_elements(from, element, at[n] * stride, D), D);
            }
        }
    }

    // KEYS scores from q[D][16] and k[KEYS][D]; returns the greatest of them and `greatest`.
    template <int KEYS>
    static FLIC_INLINE Lanes score(const Lanes* q, const float* k, const float* bias,
                                   ptrdiff_t bias_step, float* out, const Lanes& greatest) {
        Lanes sum[KEYS];
        FLIC_UNROLL for (int j = 0; j < KEYS; ++j) sum[j] = Lanes::load(bias + j * bias_step);
        FLIC_UNROLL for (int d = 0; d < D; ++d) {
            FLIC_UNROLL for (int j = 0; j < KEYS; ++j) {
                sum[j] = Lanes::fma(q[d], Lanes::set(k[j * D + d]), sum[j]);
            }
        }
        FLIC_UNROLL for (int j = 0; j < KEYS; ++j) sum[j].store(out + kStrip * j);
        FLIC_UNROLL for (int step = 1; step < KEYS; step *= 2) {
            FLIC_UNROLL for (int j = 0; j + step < KEYS; j += 2 * step) {
                sum[j] = Lanes::max(sum[j], sum[j + step]);
            }
        }
        return Lanes::max(greatest, sum[0]);
    }

    // scores[keys][16] = bias + q k; returns each query's greatest.
    static Lanes scores(const float* q, const float* k, const Bias& bias, float* out) {
        Lanes query[D];
        FLIC_UNROLL for (int d = 0; d < D; ++d) query[d] = Lanes::load(q + d * kStrip);
        Lanes greatest = Lanes::set(-__builtin_inff());
        for (int row = 0; row < bias.rows; ++row) {
            const float* from = bias.first + row * bias.row_step;
            int column = 0;
            for (; column + kKeysAtOnce <= bias.columns; column += kKeysAtOnce) {
                greatest = score<kKeysAtOnce>(query, k, from, bias.column_step, out, greatest);
                from += kKeysAtOnce * bias.column_step;
                k += kKeysAtOnce * D;
                out += kKeysAtOnce * kStrip;
            }
            for (; column < bias.columns; ++column) {
                greatest = score<1>(query, k, from, 0, out, greatest);
                from += bias.column_step;
                k += D;
                out += kStrip;
            }
        }
        return greatest;
    }

    // COUNT dimensions from `first` of out[D][16] = sum over keys of weight times v[keys][D].
    template <int COUNT>
    static FLIC_INLINE void value_dims(const float* weights, const float* v, int keys, int first,
                                       float* out) {
        constexpr int kSets = COUNT * 2 <= kDimsAtOnce ? 2 : 1;  // few chains: two for each
        Lanes sum[kSets][COUNT];
        FLIC_UNROLL for (int s = 0; s < kSets; ++s) {
            FLIC_UNROLL for (int d = 0; d < COUNT; ++d) sum[s][d] = Lanes::set(0.0f);
        }
        int j = 0;
        for (; j + kSets <= keys; j += kSets) {
            FLIC_UNROLL for (int s = 0; s < kSets; ++s) {
                const Lanes w = Lanes::load(weights + (j + s) * kStrip);
                FLIC_UNROLL for (int d = 0; d < COUNT; ++d) {
                    sum[s][d] = Lanes::fma(w, Lanes::set(v[(j + s) * D + first + d]), sum[s][d]);
                }
            }
        }
        for (; j < keys; ++j) {
            const Lanes w = Lanes::load(weights + j * kStrip);
            FLIC_UNROLL for (int d = 0; d < COUNT; ++d) {
                sum[0][d] = Lanes::fma(w, Lanes::set(v[j * D + first + d]), sum[0][d]);
            }
        }
        FLIC_UNROLL for (int d = 0; d < COUNT; ++d) {
            const Lanes total = kSets == 2 ? Lanes::add(sum[0][d], sum[kSets - 1][d]) : sum[0][d];
            total.store(out + (first + d) * kStrip);
        }
    }

    static void values(const float* weights, const float* v, int keys, float* out) {
        constexpr int kWhole = D / kDimsAtOnce * kDimsAtOnce;
        for (int first = 0; first < kWhole; first += kDimsAtOnce) {
            value_dims<kDimsAtOnce>(weights, v, keys, first, out);
        }
        if constexpr (D > kWhole) value_dims<D - kWhole>(weights, v, keys, kWhole, out);
    }
};

// The functions of Dims<D> by D.
struct DimsTable {
    decltype(&Dims<1>::gather) gather;
    decltype(&Dims<1>::scores) scores;
    decltype(&Dims<1>::values) values;
};

template <int D>
constexpr DimsTable dims_table() {
    return {Dims<D>::gather, Dims<D>::scores, Dims<D>::values};
}

constexpr DimsTable kDims[kStrip] = {
    dims_table<1>(),  dims_table<2>(),  dims_table<3>(),  dims_table<4>(),
    dims_table<5>(),  dims_table<6>(),  dims_table<7>(),  dims_table<8>(),
    dims_table<9>(),  dims_table<10>(), dims_table<11>(), dims_table<12>(),
    dims_table<13>(), dims_table<14>(), dims_table<15>(), dims_table<16>(),
};

inline int wrapped(int at, int size) { return at < size ? at : at - size; }

// Tokens of the window's pixels where they are read and where the result goes.
void window_tokens(const AttentionBranch& branch, const AttentionWindow& w, ptrdiff_t* source,
                   ptrdiff_t* target) {
    for (int y = 0; y < branch.window_height; ++y) {
        const ptrdiff_t source_row =
            static_cast<ptrdiff_t>(wrapped(w.top + y + branch.look_y, w.height)) * w.width;
        const ptrdiff_t target_row =
            static_cast<ptrdiff_t>(wrapped(w.top + y + branch.put_y, w.height)) * w.width;
        for (int x = 0; x < branch.window_width; ++x) {
            *source++ = source_row + wrapped(w.left + x + branch.look_x, w.width);
            *target++ = target_row + wrapped(w.left + x + branch.put_x, w.width);
        }
    }
}

// A head's keys and values, [keys][dims] for each 16 dimensions.
void gather_keys(const AttentionBranch& branch, const AttentionWindow& w, int head,
                 const ptrdiff_t* source, float* key, float* value) {
    const int keys = branch.keys(), dim = branch.dim;
    for (int first = 0; first < dim; first += kStrip) {
        const DimsTable& dims = kDims[(dim - first < kStrip ? dim - first : kStrip) - 1];
        const ptrdiff_t channel = static_cast<ptrdiff_t>(head) * dim + first;
        dims.gather(advance(w.k, w.element, channel), w.element, w.stride, source, keys,
                    key + first * keys);
        dims.gather(advance(w.v, w.element, channel), w.element, w.stride, source, keys,
                    value + first * keys);
    }
}

}  // namespace
