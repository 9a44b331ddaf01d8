// Elementwise operations, statistics and normalisations for the instruction set of the including
// file.
#pragma once
#include "exact/exact_kernels.h"
#include "simd/functions.h"
#include "simd/lanes.h"

namespace {

using flic::exact::kHalo;
using flic::exact::kPositions;
using flic::exact::kWindow;
using flic::exact::Moments;
using flic::exact::Normalisation;

void exp_array(const float* x, float* out, ptrdiff_t n) {
    for (ptrdiff_t i = 0; i < n; i += kLanes) exp_nonpositive(Lanes::load(x + i)).store(out + i);
}

void gelu_array(const float* x, float* out, ptrdiff_t n) {
    for (ptrdiff_t i = 0; i < n; i += kLanes) gelu(Lanes::load(x + i)).store(out + i);
}

void leaky_relu_array(const float* x, float* out, ptrdiff_t n) {
    for (ptrdiff_t i = 0; i < n; i += kLanes) leaky_relu(Lanes::load(x + i)).store(out + i);
}

void square_array(const float* x, float* out, ptrdiff_t n) {
    for (ptrdiff_t i = 0; i < n; i += kLanes) {
        const Lanes v = Lanes::load(x + i);
        Lanes::mul(v, v).store(out + i);
    }
}

void add_array(const float* a, const float* b, float* out, ptrdiff_t n) {
    for (ptrdiff_t i = 0; i < n; i += kLanes) {
        Lanes::add(Lanes::load(a + i), Lanes::load(b + i)).store(out + i);
    }
}

void inverse_gdn_array(const float* x, const float* norm, const float* identity, float* out,
                       ptrdiff_t n) {
    for (ptrdiff_t i = 0; i < n; i += kLanes) {
        Lanes::fma(Lanes::load(x + i), Lanes::sqrt(Lanes::load(norm + i)),
                   Lanes::load(identity + i))
            .store(out + i);
    }
}

// The sum of the 16 lanes as a tree: halves added until one is left.
FLIC_INLINE float lane_sum(Lanes a) {
    float f[kLanes];
    a.store(f);
    for (int half = kLanes / 2; half; half /= 2) {
        for (int i = 0; i < half; ++i) f[i] = f[i] + f[i + half];
    }
    return f[0];
}

// Four columns of 16 channels at a time are summed over the positions (independent chains); then
// the columns are added ascending to the chain `total`.
template <class Term>
FLIC_INLINE Lanes column_sums(const float* x, int inner, Term term) {
    Lanes total = Lanes::set(0.0f);
    int c = 0;
    for (; c + 4 * kLanes <= inner; c += 4 * kLanes) {
        Lanes sum[4];
        FLIC_UNROLL for (int j = 0; j < 4; ++j) sum[j] = Lanes::set(0.0f);
        for (int p = 0; p < kPositions; ++p) {
            FLIC_UNROLL for (int j = 0; j < 4; ++j) {
                sum[j] = term(Lanes::load(x + static_cast<ptrdiff_t>(p) * inner + c + kLanes * j),
                              sum[j]);
            }
        }
        FLIC_UNROLL for (int j = 0; j < 4; ++j) total = Lanes::add(total, sum[j]);
    }
    for (; c < inner; c += kLanes) {
        Lanes sum = Lanes::set(0.0f);
        for (int p = 0; p < kPositions; ++p)
            sum = term(Lanes::load(x + static_cast<ptrdiff_t>(p) * inner + c), sum);
        total = Lanes::add(total, sum);
    }
    return total;
}

Moments window_moments(const float* x, int inner) {
    const float count = static_cast<float>(kPositions * inner);
    const float mean =
        lane_sum(column_sums(x, inner, [](Lanes v, Lanes s) { return Lanes::add(s, v); })) / count;
    const Lanes m = Lanes::set(mean);
    const float m2 = lane_sum(column_sums(x, inner, [m](Lanes v, Lanes s) {
        const Lanes d = Lanes::sub(v, m);
        return Lanes::fma(d, d, s);
    }));
    return {mean, m2};
}

// 16 channels from channel c of a normalisation, its constants held in registers.
struct NormaliseColumn {
    Lanes mean, rstd, weight, bias;
    FLIC_INLINE NormaliseColumn(const Normalisation& n, int c)
        : mean(Lanes::set(n.mean)),
          rstd(Lanes::set(n.rstd)),
          weight(Lanes::load(n.weight + c)),
          bias(Lanes::load(n.bias + c)) {}
    FLIC_INLINE Lanes operator()(const float* x) const {
        return Lanes::fma(Lanes::mul(Lanes::sub(Lanes::load(x), mean), rstd), weight, bias);
    }
};

inline ptrdiff_t halo_position(int p) { return (p / kWindow + 1) * kHalo + p % kWindow + 1; }

void normalise_into_halo(const float* x, int inner, const Normalisation& n, float* halo) {
    for (int c = 0; c < inner; c += kLanes) {
        const NormaliseColumn column(n, c);
        for (ptrdiff_t p = 0; p < kPositions; ++p) {
            column(x + p * inner + c).store(halo + halo_position(static_cast<int>(p)) * inner + c);
        }
    }
}

void normalise(const float* x, int inner, const Normalisation& n, float* out) {
    for (int c = 0; c < inner; c += kLanes) {
        const NormaliseColumn column(n, c);
        for (ptrdiff_t p = 0; p < kPositions; ++p)
            column(x + p * inner + c).store(out + p * inner + c);
    }
}

void normalise_gelu_add(const float* x, int inner, const Normalisation& n, const float* halo,
                        float* out) {
    for (int c = 0; c < inner; c += kLanes) {
        const NormaliseColumn column(n, c);
        for (ptrdiff_t p = 0; p < kPositions; ++p) {
            const Lanes base = Lanes::load(halo + halo_position(static_cast<int>(p)) * inner + c);
            Lanes::add(base, gelu(column(x + p * inner + c))).store(out + p * inner + c);
        }
    }
}

// 3x3 a channel: a chain over the taps from the bias. Taps on the border take part as zeros.
void depthwise(const float* halo, int inner, const float* weights, const float* bias, float* out) {
    for (int c = 0; c < inner; c += kLanes) {
        Lanes w[9];
        FLIC_UNROLL for (int t = 0; t < 9; ++t) w[t] = Lanes::load(weights + t * inner + c);
        const Lanes start = Lanes::load(bias + c);
        for (ptrdiff_t y = 0; y < kWindow; ++y) {
            for (ptrdiff_t x = 0; x < kWindow; ++x) {
                Lanes sum = start;
                FLIC_UNROLL for (int t = 0; t < 9; ++t) {
                    sum = Lanes::fma(
                        Lanes::load(halo + ((y + t / 3) * kHalo + x + t % 3) * inner + c), w[t],
                        sum);
                }
                sum.store(out + (y * kWindow + x) * inner + c);
            }
        }
    }
}

// Over the channels of each token: chains over the groups of 16, then the lanes' tree. Absent
// channels of the last group count as zeros, in the sum of squares too.
void layer_norm(const float* x, int tokens, int channels, const float* weight, const float* bias,
                float* out) {
    const float count = static_cast<float>(channels);
    const int stride = (channels + kLanes - 1) / kLanes * kLanes;
    float present[kLanes];  // 1 where the last group has a channel
    for (int i = 0; i < kLanes; ++i) present[i] = stride - kLanes + i < channels ? 1.0f : 0.0f;
    for (; tokens > 0; --tokens, x += stride, out += stride) {
        Lanes sum = Lanes::set(0.0f);
        for (int c = 0; c < stride; c += kLanes) sum = Lanes::add(sum, Lanes::load(x + c));
        const float mean = lane_sum(sum) / count;
        const Lanes m = Lanes::set(mean);
        Lanes squares = Lanes::set(0.0f);
        for (int c = 0; c < stride; c += kLanes) {
            Lanes d = Lanes::sub(Lanes::load(x + c), m);
            if (c + kLanes == stride) d = Lanes::mul(d, Lanes::load(present));
            squares = Lanes::fma(d, d, squares);
        }
        const Normalisation n = {mean, flic::exact::reciprocal_deviation(lane_sum(squares), count),
                                 weight, bias};
        for (int c = 0; c < stride; c += kLanes) NormaliseColumn(n, c)(x + c).store(out + c);
    }
}

}  // namespace
