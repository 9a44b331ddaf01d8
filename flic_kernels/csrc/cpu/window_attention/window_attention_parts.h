// What window attention's two directions are made of, for the instruction set of the including
// file.
//
// Lanes are the 16 queries of a strip; keys and values are broadcast, one dimension at a time.
// Dimensions beyond 16 are taken 16 at a time.
#pragma once
#include <type_traits>

#include "cpu/window_attention/window_attention.h"
#include "simd/arithmetic.h"
#include "simd/exponential.h"
#include "simd/load_store.h"

namespace {

using flic::cpu::AttentionBranch;
using flic::cpu::AttentionWindow;
using flic::cpu::kStrip;

static_assert(kStrip == kLanes, "a strip fills the lanes");

// Strips that go through the keys together, so that each broadcast serves them all; independent
// chains of scores; and dimensions of the weighted values, one register a strip each.
#if defined(FLIC_LANES_AVX512)
constexpr int kMostStrips = 2, kKeysAtOnce = 8, kValueRegisters = 28;
#elif defined(FLIC_LANES_AVX2)
constexpr int kMostStrips = 1, kKeysAtOnce = 4, kValueRegisters = 6;
#else
constexpr int kMostStrips = 1, kKeysAtOnce = 2, kValueRegisters = 2;
#endif

// The bias of some strips and every key, keys row after row: 16 floats from each address.
struct Bias {
    const float* first;
    int rows, columns;
    ptrdiff_t row_step, column_step, strip_step;
};

// From strip `strip` on; `prepared` is the prepared bias, or its gradient.
Bias strip_bias(const AttentionBranch& branch, const float* prepared, int head, int strip) {
    const float* const bias = prepared + head * branch.bias_size();
    const ptrdiff_t whole_strip = static_cast<ptrdiff_t>(branch.keys()) * kStrip;
    if (!branch.bias_from_table()) {
        return {bias + strip * whole_strip, 1, branch.keys(), 0, kStrip, whole_strip};
    }
    const int height = branch.window_height, width = branch.window_width;
    const int y = strip * kStrip / width, x = strip * kStrip % width;
    const ptrdiff_t row = 2 * width - 1;
    return {bias + (y + height - 1) * row + x + width - 1,
            height,
            width,
            -row,
            -1,
            width == kStrip ? row : kStrip};
}

// One of a window's tensors, gathered: for each head and each 16 dimensions [tokens][dims], the
// whole followed by 16 floats that loads of whole vectors may reach into.
struct Gathered {
    float* data;
    ptrdiff_t head_size;
    int tokens, dim;

    Gathered(const AttentionBranch& branch, float* memory)
        : data(memory),
          head_size(branch.gathered_size() / branch.heads),
          tokens(branch.keys()),
          dim(branch.dim) {}

    float* at(int head, int first_dim) const {
        return data + head * head_size + static_cast<ptrdiff_t>(first_dim) * (tokens + 1);
    }
};

// Up to 16 rows, `stride` floats apart, zero beyond, turned: lanes are rows.
FLIC_INLINE void load_lanes(const float* rows, int count, int stride, Lanes (&out)[kLanes]) {
    for (int i = 0; i < kLanes; ++i) {
        out[i] = i < count ? Lanes::load(rows + i * stride) : Lanes::set(0.0f);
    }
    transpose(out);
}

// Lane i of values[d] to token at[i]. `values` is overwritten.
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
    // All heads of a window's tensor, in one pass over its tokens.
    static void gather(const void* from, Element element, ptrdiff_t stride, const ptrdiff_t* at,
                       const Gathered& to, int heads, int first_dim) {
        const auto gather_from = [&](const auto* data) {
            float* const rows = to.at(0, first_dim);
            for (ptrdiff_t n = 0; n < to.tokens; ++n) {
                const auto* token = data + first_dim + at[n] * stride;
                float* row = rows + n * D;
                for (int head = 0; head < heads; ++head, token += to.dim, row += to.head_size) {
                    load_first(token, D).store(row);
                }
            }
        };
        if (element == Element::float32) {
            gather_from(static_cast<const float*>(from));
        } else {
            gather_from(static_cast<const Bfloat16*>(from));
        }
    }

    // KEYS scores from q[D][S][16] and k[KEYS][D]; `greatest` keeps up.
    template <int S, int KEYS>
    static FLIC_INLINE void score(const float* q, const float* k, const float* bias,
                                  const Bias& steps, float* out, Lanes* greatest) {
        Lanes sum[S][KEYS];
        FLIC_UNROLL for (int s = 0; s < S; ++s) {
            FLIC_UNROLL for (int j = 0; j < KEYS; ++j) {
                sum[s][j] = Lanes::load(bias + s * steps.strip_step + j * steps.column_step);
            }
        }
        FLIC_UNROLL for (int d = 0; d < D; ++d) {
            Lanes query[S];
            FLIC_UNROLL for (int s = 0; s < S; ++s) query[s] =
                Lanes::load(q + (d * S + s) * kStrip);
            FLIC_UNROLL for (int j = 0; j < KEYS; ++j) {
                const Lanes key = Lanes::set(k[j * D + d]);
                FLIC_UNROLL for (int s = 0; s < S; ++s) {
                    sum[s][j] = Lanes::fma(query[s], key, sum[s][j]);
                }
            }
        }
        FLIC_UNROLL for (int s = 0; s < S; ++s) {
            FLIC_UNROLL for (int j = 0; j < KEYS; ++j) sum[s][j].store(out + (j * S + s) * kStrip);
            FLIC_UNROLL for (int step = 1; step < KEYS; step *= 2) {
                FLIC_UNROLL for (int j = 0; j + step < KEYS; j += 2 * step) {
                    sum[s][j] = Lanes::max(sum[s][j], sum[s][j + step]);
                }
            }
            greatest[s] = Lanes::max(greatest[s], sum[s][0]);
        }
    }

    // scores[keys][S][16] = bias + q k, and each query's greatest.
    template <int S>
    static void scores(const float* q, const float* k, const Bias& bias, float* out,
                       Lanes* greatest) {
        Lanes peak[S];
        FLIC_UNROLL for (int s = 0; s < S; ++s) peak[s] = Lanes::set(-__builtin_inff());
        for (int row = 0; row < bias.rows; ++row) {
            const float* from = bias.first + row * bias.row_step;
            int column = 0;
            for (; column + kKeysAtOnce <= bias.columns; column += kKeysAtOnce) {
                score<S, kKeysAtOnce>(q, k, from, bias, out, peak);
                from += kKeysAtOnce * bias.column_step;
                k += kKeysAtOnce * D;
                out += kKeysAtOnce * S * kStrip;
            }
            for (; column < bias.columns; ++column) {
                score<S, 1>(q, k, from, bias, out, peak);
                from += bias.column_step;
                k += D;
                out += S * kStrip;
            }
        }
        FLIC_UNROLL for (int s = 0; s < S; ++s) greatest[s] = peak[s];
    }

    // COUNT dimensions from `first` of out[D][S][16]: weights[keys][S][16] times v[keys][D].
    template <int S, int COUNT>
    static FLIC_INLINE void value_dims(const float* weights, const float* v, int keys, int first,
                                       float* out) {
        constexpr int kSets = S * COUNT * 2 <= kValueRegisters ? 2 : 1;  // few chains: twice them
        Lanes sum[kSets][S][COUNT];
        FLIC_UNROLL for (int n = 0; n < kSets; ++n) {
            FLIC_UNROLL for (int s = 0; s < S; ++s) {
                FLIC_UNROLL for (int d = 0; d < COUNT; ++d) sum[n][s][d] = Lanes::set(0.0f);
            }
        }
        int j = 0;
        for (; j + kSets <= keys; j += kSets) {
            FLIC_UNROLL for (int n = 0; n < kSets; ++n) {
                add_value<S, COUNT>(weights + (j + n) * S * kStrip, v + (j + n) * D + first,
                                    sum[n]);
            }
        }
        for (; j < keys; ++j) {
            add_value<S, COUNT>(weights + j * S * kStrip, v + j * D + first, sum[0]);
        }
        FLIC_UNROLL for (int d = 0; d < COUNT; ++d) {
            FLIC_UNROLL for (int s = 0; s < S; ++s) {
                const Lanes total =
                    kSets == 2 ? Lanes::add(sum[0][s][d], sum[kSets - 1][s][d]) : sum[0][s][d];
                total.store(out + ((first + d) * S + s) * kStrip);
            }
        }
    }
    template <int S, int COUNT>
    static FLIC_INLINE void add_value(const float* weights, const float* v,
                                      Lanes (&sum)[S][COUNT]) {
        Lanes w[S];
        FLIC_UNROLL for (int s = 0; s < S; ++s) w[s] = Lanes::load(weights + s * kStrip);
        FLIC_UNROLL for (int d = 0; d < COUNT; ++d) {
            const Lanes value = Lanes::set(v[d]);
            FLIC_UNROLL for (int s = 0; s < S; ++s) sum[s][d] = Lanes::fma(w[s], value, sum[s][d]);
        }
    }

    template <int S>
    static void values(const float* weights, const float* v, int keys, float* out) {
        constexpr int kParts = (D * S + kValueRegisters - 1) / kValueRegisters;
        constexpr int kCount = (D + kParts - 1) / kParts, kWhole = D / kCount * kCount;
        for (int first = 0; first < kWhole; first += kCount) {
            value_dims<S, kCount>(weights, v, keys, first, out);
        }
        if constexpr (D > kWhole) value_dims<S, D - kWhole>(weights, v, keys, kWhole, out);
    }

    // sums[D][whole strips] += factors[keys][S][16] times rows[S * 16][D], of which the last strip
    // has `queries`. Lanes are keys.
    template <int S>
    static void add_outer(const float* factors, const float* rows, int queries, int keys,
                          float* sums) {
        constexpr int kSets = D <= 8 ? 2 : 1;  // few chains: twice them
        const int stride = (keys + kStrip - 1) / kStrip * kStrip;
        for (int first = 0; first < keys; first += kStrip) {
            Lanes sum[kSets][D];
            FLIC_UNROLL for (int d = 0; d < D; ++d) {
                sum[0][d] = Lanes::load(sums + d * stride + first);
                if (kSets == 2) sum[kSets - 1][d] = Lanes::set(0.0f);
            }
            const int count = keys - first < kStrip ? keys - first : kStrip;
            FLIC_UNROLL for (int s = 0; s < S; ++s) {
                Lanes turned[kLanes];
                load_lanes(factors + (first * S + s) * kStrip, count, S * kStrip, turned);
                FLIC_UNROLL for (int i = 0; i < kLanes; ++i) {
                    if (i >= queries) break;
                    FLIC_UNROLL for (int d = 0; d < D; ++d) {
                        Lanes& own = sum[i % kSets][d];
                        own =
                            Lanes::fma(turned[i], Lanes::set(rows[(s * kStrip + i) * D + d]), own);
                    }
                }
            }
            FLIC_UNROLL for (int d = 0; d < D; ++d) {
                const Lanes total =
                    kSets == 2 ? Lanes::add(sum[0][d], sum[kSets - 1][d]) : sum[0][d];
                total.store(sums + d * stride + first);
            }
        }
    }
};

// The functions of Dims<D> for S strips, by D.
template <int S>
struct DimsTable {
    decltype(&Dims<1>::gather) gather;
    decltype(&Dims<1>::template scores<S>) scores;
    decltype(&Dims<1>::template values<S>) values;
    decltype(&Dims<1>::template add_outer<S>) add_outer;
};

template <int S, int D>
constexpr DimsTable<S> dims_table() {
    return {Dims<D>::gather, Dims<D>::template scores<S>, Dims<D>::template values<S>,
            Dims<D>::template add_outer<S>};
}

template <int S>
constexpr DimsTable<S> kDims[kStrip] = {
    dims_table<S, 1>(),  dims_table<S, 2>(),  dims_table<S, 3>(),  dims_table<S, 4>(),
    dims_table<S, 5>(),  dims_table<S, 6>(),  dims_table<S, 7>(),  dims_table<S, 8>(),
    dims_table<S, 9>(),  dims_table<S, 10>(), dims_table<S, 11>(), dims_table<S, 12>(),
    dims_table<S, 13>(), dims_table<S, 14>(), dims_table<S, 15>(), dims_table<S, 16>(),
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

void gather(const AttentionBranch& branch, const void* from, Element element, ptrdiff_t stride,
            const ptrdiff_t* at, const Gathered& to) {
    for (int first = 0; first < branch.dim; first += kStrip) {
        const int dims = branch.dim - first < kStrip ? branch.dim - first : kStrip;
        kDims<1>[dims - 1].gather(from, element, stride, at, to, branch.heads, first);
    }
}

// visit(S as a constant, strip) for the window's strips, as many together as may be.
template <class Visit>
FLIC_INLINE void for_strips(const AttentionBranch& branch, const Visit& visit) {
    if (branch.strips() % kMostStrips == 0) {
        for (int strip = 0; strip < branch.strips(); strip += kMostStrips) {
            visit(std::integral_constant<int, kMostStrips>(), strip);
        }
    } else {
        for (int strip = 0; strip < branch.strips(); ++strip) {
            visit(std::integral_constant<int, 1>(), strip);
        }
    }
}

}  // namespace
