// Loads and stores of up to 16 lanes from float32 or bfloat16 tensors, for the instruction set of
// the including file.
#pragma once
#include "cpu/element.h"
#include "simd/arithmetic.h"

namespace {

using flic::cpu::advance;
using flic::cpu::Element;

// To the nearest, ties to even; NaN stays NaN.
#if defined(FLIC_LANES_AVX512)
FLIC_INLINE Lanes load_bfloat16(const uint16_t* p, int n) {
    const __m256i bits = _mm256_maskz_loadu_epi16(first_lanes(n), p);
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16))};
}
FLIC_INLINE void store_bfloat16(uint16_t* p, Lanes a, int n) {
    const __m512i bits = _mm512_castps_si512(a.v);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i up = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
    const __mmask16 nan = _mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q);
    const __m512i rounded =
        _mm512_mask_mov_epi32(_mm512_srli_epi32(up, 16), nan, _mm512_set1_epi32(0x7fc0));
    _mm256_mask_storeu_epi16(p, first_lanes(n), _mm512_cvtepi32_epi16(rounded));
}
#else
FLIC_INLINE Lanes load_bfloat16(const uint16_t* p, int n) {
    uint32_t wide[kLanes] = {};
    for (int i = 0; i < n; ++i) wide[i] = static_cast<uint32_t>(p[i]) << 16;
    float values[kLanes];
    memcpy(values, wide, sizeof values);
    return Lanes::load(values);
}
FLIC_INLINE void store_bfloat16(uint16_t* p, const Lanes& a, int n) {
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

// The first n of 16 values from element `at` on, zeros in the others.
FLIC_INLINE Lanes load_elements(const void* data, Element element, ptrdiff_t at, int n) {
    if (element == Element::float32) return load_first(static_cast<const float*>(data) + at, n);
    return load_bfloat16(static_cast<const uint16_t*>(data) + at, n);
}
FLIC_INLINE void store_elements(void* data, Element element, ptrdiff_t at, const Lanes& a, int n) {
    if (element == Element::float32) {
        store_first(static_cast<float*>(data) + at, a, n);
    } else {
        store_bfloat16(static_cast<uint16_t*>(data) + at, a, n);
    }
}

}  // namespace
