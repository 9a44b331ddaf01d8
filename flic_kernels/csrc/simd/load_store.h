// Loads and stores of up to 16 lanes from float32 and bfloat16 tensors, whose type the pointer or
// an Element says, for the instruction set of the including file. Stores to bfloat16 round to the
// nearest, ties to even; NaN stays NaN.
#pragma once
#include <stddef.h>

#include "cpu/element.h"
#include "cpu/rows.h"
#include "simd/quick_lanes.h"

namespace {

using flic::cpu::advance;
using flic::cpu::Bfloat16;
using flic::cpu::Element;

FLIC_INLINE Lanes load(const float* p) { return Lanes::load(p); }
FLIC_INLINE void store(float* p, const Lanes& a) { a.store(p); }

// The first n lanes; the others are loaded as zeros and not stored.
#if defined(FLIC_LANES_AVX512)

FLIC_INLINE __mmask16 first_lanes(int n) { return static_cast<__mmask16>((1u << n) - 1); }

FLIC_INLINE Lanes load_first(const float* p, int n) {
    return {_mm512_maskz_loadu_ps(first_lanes(n), p)};
}
FLIC_INLINE void store_first(float* p, Lanes a, int n) {
    _mm512_mask_storeu_ps(p, first_lanes(n), a.v);
}

FLIC_INLINE Lanes load_first(const Bfloat16* p, int n) {
    const __m256i bits = _mm256_maskz_loadu_epi16(first_lanes(n), p);
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16))};
}
FLIC_INLINE void store_first(Bfloat16* p, Lanes a, int n) {
    const __m512i bits = _mm512_castps_si512(a.v);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i up = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
    const __mmask16 nan = _mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q);
    const __m512i rounded =
        _mm512_mask_mov_epi32(_mm512_srli_epi32(up, 16), nan, _mm512_set1_epi32(0x7fc0));
    _mm256_mask_storeu_epi16(p, first_lanes(n), _mm512_cvtepi32_epi16(rounded));
}

#else

#if defined(FLIC_LANES_AVX2)
FLIC_INLINE __m256i first_lanes(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

FLIC_INLINE Lanes load_first(const float* p, int n) {
    return {_mm256_maskload_ps(p, first_lanes(n)), _mm256_maskload_ps(p + 8, first_lanes(n - 8))};
}
FLIC_INLINE void store_first(float* p, Lanes a, int n) {
    _mm256_maskstore_ps(p, first_lanes(n), a.lo);
    _mm256_maskstore_ps(p + 8, first_lanes(n - 8), a.hi);
}
#else
FLIC_INLINE Lanes load_first(const float* p, int n) {
    return Lanes::each([=](int i) { return i < n ? p[i] : 0.0f; });
}
FLIC_INLINE void store_first(float* p, const Lanes& a, int n) {
    for (int i = 0; i < kLanes && i < n; ++i) p[i] = a.v[i];
}
#endif

FLIC_INLINE Lanes load_first(const Bfloat16* p, int n) {
    uint32_t wide[kLanes] = {};
    for (int i = 0; i < n; ++i) wide[i] = static_cast<uint32_t>(p[i]) << 16;
    float values[kLanes];
    memcpy(values, wide, sizeof values);
    return Lanes::load(values);
}
FLIC_INLINE void store_first(Bfloat16* p, const Lanes& a, int n) {
    float values[kLanes];
    uint32_t bits[kLanes];
    a.store(values);
    memcpy(bits, values, sizeof bits);
    for (int i = 0; i < n; ++i) {
        const bool nan = (bits[i] & 0x7fffffffu) > 0x7f800000u;
        const uint32_t up = (bits[i] + 0x7fffu + ((bits[i] >> 16) & 1u)) >> 16;
        p[i] = static_cast<uint16_t>(nan ? 0x7fc0u : up);
    }
}

#endif

// All lanes of bfloat16.
#if defined(FLIC_LANES_AVX2)

FLIC_INLINE __m256 widened(const Bfloat16* p) {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}
FLIC_INLINE Lanes load(const Bfloat16* p) { return {widened(p), widened(p + 8)}; }

// In the low halves.
FLIC_INLINE __m256i rounded(__m256 a) {
    const __m256i bits = _mm256_castps_si256(a);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i up = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_UNORD_Q));
    return _mm256_blendv_epi8(_mm256_srli_epi32(up, 16), _mm256_set1_epi32(0x7fc0), nan);
}
FLIC_INLINE void store(Bfloat16* p, Lanes a) {
    const __m256i both = _mm256_packus_epi32(rounded(a.lo), rounded(a.hi));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_permute4x64_epi64(both, 0xd8));
}

#else

FLIC_INLINE Lanes load(const Bfloat16* p) { return load_first(p, kLanes); }
#if defined(__AVX512BF16__)
FLIC_INLINE void store(Bfloat16* p, Lanes a) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), (__m256i)_mm512_cvtneps_pbh(a.v));
}
#else
FLIC_INLINE void store(Bfloat16* p, const Lanes& a) { store_first(p, a, kLanes); }
#endif

#endif

// The first n of 16 values from element `at` on, zeros in the others.
FLIC_INLINE Lanes load_elements(const void* data, Element element, ptrdiff_t at, int n) {
    if (element == Element::float32) return load_first(static_cast<const float*>(data) + at, n);
    return load_first(static_cast<const Bfloat16*>(data) + at, n);
}
FLIC_INLINE void store_elements(void* data, Element element, ptrdiff_t at, const Lanes& a, int n) {
    if (element == Element::float32) {
        store_first(static_cast<float*>(data) + at, a, n);
    } else {
        store_first(static_cast<Bfloat16*>(data) + at, a, n);
    }
}

// n lanes, in one piece where n is 16.
template <class T>
FLIC_INLINE Lanes load_run(const T* p, int n) {
    return n == kLanes ? load(p) : load_first(p, n);
}
template <class T>
FLIC_INLINE void store_run(T* p, const Lanes& a, int n) {
    n == kLanes ? store(p, a) : store_first(p, a, n);
}

// step(i, n) for every run of n <= 16 elements from i on; n is a constant but in the last one.
template <class Step>
FLIC_INLINE void each_run(ptrdiff_t count, Step step) {
    ptrdiff_t i = 0;
    for (; i + kLanes <= count; i += kLanes) step(i, kLanes);
    if (i < count) step(i, static_cast<int>(count - i));
}

}  // namespace
