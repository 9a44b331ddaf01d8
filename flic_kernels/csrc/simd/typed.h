// Loads and stores of lanes by the type of the pointer: float, or Bfloat16. For the instruction set
// of the including file.
#pragma once
#include "simd/load_store.h"
#include "cpu/rows.h"

namespace {

using flic::cpu::Bfloat16;

#if defined(FLIC_LANES_AVX2)

FLIC_INLINE __m256 widened(const Bfloat16* p) {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}
FLIC_INLINE Lanes load(const Bfloat16* p) { return {widened(p), widened(p + 8)}; }

// In the low halves, to the nearest, ties to even; NaN stays NaN.
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

FLIC_INLINE Lanes load(const Bfloat16* p) { return load_bfloat16(p, kLanes); }
#if defined(__AVX512BF16__)
FLIC_INLINE void store(Bfloat16* p, Lanes a) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), (__m256i)_mm512_cvtneps_pbh(a.v));
}
#else
FLIC_INLINE void store(Bfloat16* p, const Lanes& a) { store_bfloat16(p, a, kLanes); }
#endif

#endif

FLIC_INLINE Lanes load(const float* p) { return Lanes::load(p); }
FLIC_INLINE void store(float* p, const Lanes& a) { a.store(p); }

// The first n lanes; the others are zeros and not stored.
FLIC_INLINE Lanes load_first(const Bfloat16* p, int n) { return load_bfloat16(p, n); }
FLIC_INLINE void store_first(Bfloat16* p, const Lanes& a, int n) { store_bfloat16(p, a, n); }

}  // namespace
