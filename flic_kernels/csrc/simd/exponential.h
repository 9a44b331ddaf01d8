// Softmax on sixteen lanes in base 2, for the instruction set of the including file.
#pragma once
#include "simd/arithmetic.h"
#include "simd/functions.h"

namespace {

constexpr float kLog2E = 1.44269504f;

// 2^x for x <= 100; below -126 it stays at 2^-126. Relative error at most 1.6e-7. NaN stays NaN.
FLIC_INLINE Lanes exp2_lanes(Lanes x) {
    x = Lanes::max(Lanes::set(-126.0f), x);
#if defined(FLIC_LANES_AVX512)
    // 2^(x - floor(x)), then times 2^floor(x).
    const float coefficients[6] = {0x1.fffffep-1f, 0x1.62e4f6p-1f, 0x1.ebd5a8p-3f,
                                   0x1.c95446p-5f, 0x1.26900cp-7f, 0x1.ec320cp-10f};
    const Lanes r = {_mm512_maskz_reduce_ps(Lanes::kAll, x.v, _MM_FROUND_TO_NEG_INF)};
    return {_mm512_maskz_scalef_ps(Lanes::kAll, polynomial(r, coefficients).v, x.v)};
#else
    // The same with x rounded to the nearest integer.
    const float coefficients[7] = {1.0f,           0x1.62e430p-1f,  0x1.ebfbdap-3f, 0x1.c6aed4p-5f,
                                   0x1.3b2dbcp-7f, 0x1.5f456ap-10f, 0x1.41d334p-13f};
    const Lanes shifted = Lanes::add(x, Lanes::set(0x1.8p23f));
    const Lanes r = Lanes::sub(x, Lanes::add(shifted, Lanes::set(-0x1.8p23f)));
    return Lanes::mul(polynomial(r, coefficients), Lanes::power_of_two(shifted));
#endif
}

// log2(x) for x in [1, 2^24]. Absolute error at most 1.5e-6.
FLIC_INLINE Lanes log2_lanes(const Lanes& x) {
    float values[kLanes];
    x.store(values);
    for (float& value : values) {
        uint32_t bits;
        memcpy(&bits, &value, 4);
        const uint32_t moved = bits - 0x3f3504f3u;  // the mantissa into [sqrt(1/2), sqrt(2))
        const uint32_t mantissa = (moved & 0x007fffffu) + 0x3f3504f3u;
        float m;
        memcpy(&m, &mantissa, 4);
        const float t = (m - 1.0f) / (m + 1.0f), t2 = t * t;
        // 2 log2(e) artanh(t)
        value = static_cast<float>(static_cast<int32_t>(moved) >> 23) +
                t * (2.88539008f + t2 * (0.961796694f + t2 * (0.577078016f + t2 * 0.412198583f)));
    }
    return Lanes::load(values);
}

// Of `keys` scores, 16 lanes each.
FLIC_INLINE Lanes greatest_of(const float* scores, int keys) {
    Lanes greatest = Lanes::load(scores);
    for (int j = 1; j < keys; ++j) {
        greatest = Lanes::max(greatest, Lanes::load(scores + j * kLanes));
    }
    return greatest;
}

// Replaces scores[keys][S][16] by 2^(score - greatest), and sums them over the keys.
template <int S>
FLIC_INLINE void exponentials(float* scores, int keys, const Lanes* greatest, Lanes* sum) {
    constexpr int kSets = 4 / S;  // chains for each sum
    Lanes part[kSets][S];
    FLIC_UNROLL for (int n = 0; n < kSets; ++n) {
        FLIC_UNROLL for (int s = 0; s < S; ++s) part[n][s] = Lanes::set(0.0f);
    }
    int j = 0;
    for (; j + kSets <= keys; j += kSets) {
        FLIC_UNROLL for (int n = 0; n < kSets; ++n) {
            FLIC_UNROLL for (int s = 0; s < S; ++s) {
                float* const at = scores + ((j + n) * S + s) * kLanes;
                const Lanes e = exp2_lanes(Lanes::sub(Lanes::load(at), greatest[s]));
                e.store(at);
                part[n][s] = Lanes::add(part[n][s], e);
            }
        }
    }
    for (; j < keys; ++j) {
        FLIC_UNROLL for (int s = 0; s < S; ++s) {
            float* const at = scores + (j * S + s) * kLanes;
            const Lanes e = exp2_lanes(Lanes::sub(Lanes::load(at), greatest[s]));
            e.store(at);
            part[0][s] = Lanes::add(part[0][s], e);
        }
    }
    FLIC_UNROLL for (int s = 0; s < S; ++s) {
        sum[s] = part[0][s];
        FLIC_UNROLL for (int n = 1; n < kSets; ++n) sum[s] = Lanes::add(sum[s], part[n][s]);
    }
}

}  // namespace
