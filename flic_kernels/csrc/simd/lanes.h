// Sixteen float32 lanes: the one vector type of the exact engine, as AVX-512, AVX2 or plain C++.
//
// Every operation is one correctly rounded IEEE 754 operation per lane, so the three give the same
// bits. Which one is meant follows from the instruction set that the including file is compiled
// for; a file that defines FLIC_LANES_SCALAR gets the plain one. Everything has internal linkage:
// code compiled for one instruction set must never be merged with another's.
//
// The float kernels of cpu/ use it too, through quick_lanes.h, which defines FLIC_LOOSE_FMA: where
// the plain one has no fused multiply-add it may round twice.
#pragma once
#include <float.h>
#include <stdint.h>
#include <string.h>

#if FLT_EVAL_METHOD != 0
#error "float32 must be evaluated in float32 (on 32-bit x86: -msse2 -mfpmath=sse)"
#endif
#ifdef __FAST_MATH__
#error "the exact engine must not be compiled with -ffast-math"
#endif

#define FLIC_INLINE inline __attribute__((always_inline))
#define FLIC_UNROLL _Pragma("GCC unroll 32")

#if defined(FLIC_LANES_SCALAR) || !(defined(__AVX2__) && defined(__FMA__))
#define FLIC_LANES_NAME "scalar"
#if !defined(FLIC_SOFT_FMA) && !defined(FLIC_LOOSE_FMA) && !defined(__FMA__) && \
    !defined(__aarch64__)
#define FLIC_SOFT_FMA
#endif
#include "simd/soft_fma.h"
#elif defined(__AVX512F__)
#define FLIC_LANES_NAME "avx512"
#define FLIC_LANES_AVX512
#include <immintrin.h>
#else
#define FLIC_LANES_NAME "avx2"
#define FLIC_LANES_AVX2
#include <immintrin.h>
#endif

namespace {

constexpr int kLanes = 16;

#if defined(FLIC_LANES_AVX512)

struct Lanes {
    __m512 v;
    static constexpr __mmask16 kAll =
        0xffff;  // the unmasked forms of these make gcc 12 warn (its bug 105593)
    static FLIC_INLINE Lanes set(float x) { return {_mm512_set1_ps(x)}; }
    static FLIC_INLINE Lanes load(const float* p) { return {_mm512_loadu_ps(p)}; }
    FLIC_INLINE void store(float* p) const { _mm512_storeu_ps(p, v); }
    static FLIC_INLINE Lanes fma(Lanes a, Lanes b, Lanes c) {
        return {_mm512_fmadd_ps(a.v, b.v, c.v)};
    }
    static FLIC_INLINE Lanes fnma(Lanes a, Lanes b, Lanes c) {  // c - a b
        return {_mm512_fnmadd_ps(a.v, b.v, c.v)};
    }
    static FLIC_INLINE Lanes add(Lanes a, Lanes b) { return {_mm512_add_ps(a.v, b.v)}; }
    static FLIC_INLINE Lanes sub(Lanes a, Lanes b) { return {_mm512_sub_ps(a.v, b.v)}; }
    static FLIC_INLINE Lanes mul(Lanes a, Lanes b) { return {_mm512_mul_ps(a.v, b.v)}; }
    static FLIC_INLINE Lanes div(Lanes a, Lanes b) { return {_mm512_div_ps(a.v, b.v)}; }
    static FLIC_INLINE Lanes sqrt(Lanes a) { return {_mm512_maskz_sqrt_ps(kAll, a.v)}; }
    // a > b ? a : b, and a < b ? a : b: b where either is NaN
    static FLIC_INLINE Lanes max(Lanes a, Lanes b) { return {_mm512_maskz_max_ps(kAll, a.v, b.v)}; }
    static FLIC_INLINE Lanes min(Lanes a, Lanes b) { return {_mm512_maskz_min_ps(kAll, a.v, b.v)}; }
    // 2^n from 1.5 * 2^23 + n, n an integer in [-126, 127]
    static FLIC_INLINE Lanes power_of_two(Lanes a) {
        const __m512i n = _mm512_maskz_slli_epi32(kAll, _mm512_castps_si512(a.v), 23);
        return {_mm512_castsi512_ps(_mm512_add_epi32(n, _mm512_set1_epi32(0x3f800000)))};
    }
};

#elif defined(FLIC_LANES_AVX2)

struct Lanes {
    __m256 lo, hi;
    static FLIC_INLINE Lanes set(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
    static FLIC_INLINE Lanes load(const float* p) {
        return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
    }
    FLIC_INLINE void store(float* p) const { _mm256_storeu_ps(p, lo), _mm256_storeu_ps(p + 8, hi); }
    static FLIC_INLINE Lanes fma(Lanes a, Lanes b, Lanes c) {
        return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
    }
    static FLIC_INLINE Lanes fnma(Lanes a, Lanes b, Lanes c) {
        return {_mm256_fnmadd_ps(a.lo, b.lo, c.lo), _mm256_fnmadd_ps(a.hi, b.hi, c.hi)};
    }
    static FLIC_INLINE Lanes add(Lanes a, Lanes b) {
        return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)};
    }
    static FLIC_INLINE Lanes sub(Lanes a, Lanes b) {
        return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)};
    }
    static FLIC_INLINE Lanes mul(Lanes a, Lanes b) {
        return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)};
    }
    static FLIC_INLINE Lanes div(Lanes a, Lanes b) {
        return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)};
    }
    static FLIC_INLINE Lanes sqrt(Lanes a) { return {_mm256_sqrt_ps(a.lo), _mm256_sqrt_ps(a.hi)}; }
    static FLIC_INLINE Lanes max(Lanes a, Lanes b) {
        return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)};
    }
    static FLIC_INLINE Lanes min(Lanes a, Lanes b) {
        return {_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)};
    }
    static FLIC_INLINE __m256 power_of_two_half(__m256 a) {
        const __m256i n = _mm256_slli_epi32(_mm256_castps_si256(a), 23);
        return _mm256_castsi256_ps(_mm256_add_epi32(n, _mm256_set1_epi32(0x3f800000)));
    }
    static FLIC_INLINE Lanes power_of_two(Lanes a) {
        return {power_of_two_half(a.lo), power_of_two_half(a.hi)};
    }
};

#elif defined(FLIC_LOOSE_FMA)

// The compilers' own vectors: what the plain code below computes, in far less time to compile.

struct Lanes {
    typedef float Vector __attribute__((vector_size(64), aligned(16)));
    typedef uint32_t Bits __attribute__((vector_size(64), aligned(16)));
    Vector v;

    template <class Operation>
    static FLIC_INLINE Lanes each(Operation operation) {
        Lanes r;
        for (int i = 0; i < kLanes; ++i) r.v[i] = operation(i);
        return r;
    }
    static FLIC_INLINE Lanes set(float x) { return {x - Vector{}}; }
    static FLIC_INLINE Lanes load(const float* p) {
        Lanes r;
        memcpy(&r.v, p, sizeof r.v);
        return r;
    }
    FLIC_INLINE void store(float* p) const { memcpy(p, &v, sizeof v); }
    static FLIC_INLINE Lanes fma(const Lanes& a, const Lanes& b, const Lanes& c) {
        return {a.v * b.v + c.v};
    }
    static FLIC_INLINE Lanes fnma(const Lanes& a, const Lanes& b, const Lanes& c) {
        return {c.v - a.v * b.v};
    }
    static FLIC_INLINE Lanes add(const Lanes& a, const Lanes& b) { return {a.v + b.v}; }
    static FLIC_INLINE Lanes sub(const Lanes& a, const Lanes& b) { return {a.v - b.v}; }
    static FLIC_INLINE Lanes mul(const Lanes& a, const Lanes& b) { return {a.v * b.v}; }
    static FLIC_INLINE Lanes div(const Lanes& a, const Lanes& b) { return {a.v / b.v}; }
    static FLIC_INLINE Lanes sqrt(const Lanes& a) {
        return each([&](int i) { return __builtin_sqrtf(a.v[i]); });
    }
    static FLIC_INLINE Lanes max(const Lanes& a, const Lanes& b) { return {a.v > b.v ? a.v : b.v}; }
    static FLIC_INLINE Lanes min(const Lanes& a, const Lanes& b) { return {a.v < b.v ? a.v : b.v}; }
    static FLIC_INLINE Lanes power_of_two(const Lanes& a) {
        return {reinterpret_cast<Vector>((reinterpret_cast<Bits>(a.v) << 23) + 0x3f800000u)};
    }
};

#else

struct Lanes {
    float v[kLanes];

    template <class Operation>
    static FLIC_INLINE Lanes each(Operation operation) {
        Lanes r;
        for (int i = 0; i < kLanes; ++i) r.v[i] = operation(i);
        return r;
    }
    static FLIC_INLINE Lanes set(float x) {
        return each([=](int) { return x; });
    }
    static FLIC_INLINE Lanes load(const float* p) {
        return each([=](int i) { return p[i]; });
    }
    FLIC_INLINE void store(float* p) const { memcpy(p, v, sizeof v); }
    static FLIC_INLINE Lanes fma(const Lanes& a, const Lanes& b, const Lanes& c) {
#if defined(FLIC_SOFT_FMA)
        typedef double Pair __attribute__((vector_size(16)));
        typedef uint64_t Bits __attribute__((vector_size(16)));
        const auto pair = [](const Lanes& x, int i) { return Pair{x.v[i], x.v[i + 1]}; };
        Lanes r;
        FLIC_UNROLL for (int i = 0; i < kLanes; i += 2) {
            const Pair sum = sum_to_odd<Pair, Bits>(pair(a, i) * pair(b, i), pair(c, i));
            r.v[i] = static_cast<float>(sum[0]);
            r.v[i + 1] = static_cast<float>(sum[1]);
        }
        keep_rounded(r.v);
        return r;
#else
        return each([&](int i) { return __builtin_fmaf(a.v[i], b.v[i], c.v[i]); });
#endif
    }
    static FLIC_INLINE Lanes add(const Lanes& a, const Lanes& b) {
        return each([&](int i) { return a.v[i] + b.v[i]; });
    }
    static FLIC_INLINE Lanes sub(const Lanes& a, const Lanes& b) {
        return each([&](int i) { return a.v[i] - b.v[i]; });
    }
    static FLIC_INLINE Lanes mul(const Lanes& a, const Lanes& b) {
        return each([&](int i) { return a.v[i] * b.v[i]; });
    }
    static FLIC_INLINE Lanes div(const Lanes& a, const Lanes& b) {
        return each([&](int i) { return a.v[i] / b.v[i]; });
    }
    static FLIC_INLINE Lanes sqrt(const Lanes& a) {
        return each([&](int i) { return __builtin_sqrtf(a.v[i]); });
    }
    static FLIC_INLINE Lanes max(const Lanes& a, const Lanes& b) {
        return each([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
    }
    static FLIC_INLINE Lanes min(const Lanes& a, const Lanes& b) {
        return each([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
    }
    static FLIC_INLINE Lanes power_of_two(const Lanes& a) {
        return each([&](int i) {
            uint32_t bits;
            memcpy(&bits, &a.v[i], 4);
            bits = (bits << 23) + 0x3f800000u;
            float r;
            memcpy(&r, &bits, 4);
            return r;
        });
    }
};

#endif

}  // namespace
