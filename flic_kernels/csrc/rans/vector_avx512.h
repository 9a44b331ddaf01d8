// V (vectors.h): sixteen lanes in an AVX-512 register.
#pragma once

#include <immintrin.h>

#include "rans/lane_coder.h"

namespace flic {
namespace rans {
namespace {

struct V {
    using U = __m512i;
    using Mask = __mmask16;
    static constexpr int width = 16;

    static U set(uint32_t value) { return _mm512_set1_epi32(static_cast<int>(value)); }
    static U load(const void* from) { return _mm512_loadu_si512(from); }
    static void store(void* to, U a) { _mm512_storeu_si512(to, a); }
    static __m256i load_half(const void* from) {
        return _mm256_loadu_si256(static_cast<const __m256i*>(from));
    }
    static U load_wide(const int32_t* from) { return load(from); }
    static U load_wide(const uint16_t* from) { return _mm512_cvtepu16_epi32(load_half(from)); }
    static U load_wide(const int16_t* from) { return _mm512_cvtepi16_epi32(load_half(from)); }
    static U load_wide(const int8_t* from) {
        return _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
    }
    static U gather(const uint32_t* base, U at) { return _mm512_i32gather_epi32(at, base, 4); }
    // The low and the high halves of 64-bit records.
    static void gather_pairs(const void* base, U at, U& low, U& high) {
        const U a = _mm512_i32gather_epi64(_mm512_castsi512_si256(at), base, 8);
        const U b = _mm512_i32gather_epi64(_mm512_extracti64x4_epi64(at, 1), base, 8);
        const U even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
        low = _mm512_permutex2var_epi32(a, even, b);
        high = _mm512_permutex2var_epi32(a, _mm512_add_epi32(even, set(1)), b);
    }
    static U add(U a, U b) { return _mm512_add_epi32(a, b); }
    static U sub(U a, U b) { return _mm512_sub_epi32(a, b); }
    static U mul(U a, U b) { return _mm512_mullo_epi32(a, b); }
    static U min(U a, U b) { return _mm512_min_epu32(a, b); }
    static U max(U a, U b) { return _mm512_max_epu32(a, b); }
    static U bit_and(U a, U b) { return _mm512_and_si512(a, b); }
    static U bit_or(U a, U b) { return _mm512_or_si512(a, b); }
    template <int n>
    static U shr(U a) {
        return _mm512_srli_epi32(a, n);
    }
    template <int n>
    static U shl(U a) {
        return _mm512_slli_epi32(a, n);
    }
    static U shr_by(U a, U n) { return _mm512_srlv_epi32(a, n); }
    static U sign_extend_low(U a) { return _mm512_srai_epi32(_mm512_slli_epi32(a, 16), 16); }
    static U choose(Mask m, U yes, U no) { return _mm512_mask_mov_epi32(no, m, yes); }
    static U add_one(Mask m, U a) { return _mm512_mask_add_epi32(a, m, a, set(1)); }
    static Mask not_less(U a, U b) { return _mm512_cmpge_epu32_mask(a, b); }
    static Mask not_equal(U a, U b) { return _mm512_cmpneq_epu32_mask(a, b); }
    static Mask below_low(U a) { return _mm512_cmplt_epu32_mask(a, set(kStateLow)); }
    static uint32_t bits(Mask m) { return m; }
    static uint32_t any_bit(U a, uint32_t bit) { return _mm512_test_epi32_mask(a, set(bit)); }
    // The next words, in order, at the lanes of `reading`.
    static U expand(const uint8_t* words, uint32_t reading) {
        const U block = _mm512_cvtepu16_epi32(load_half(words));
        return _mm512_maskz_expand_epi32(static_cast<Mask>(reading), block);
    }
    // The low words of the lanes in m, in order. What lies behind them stays.
    static void compress(uint8_t* words, Mask m, U a) {
        const U front = _mm512_maskz_compress_epi32(m, a);
        const uint32_t kept = (uint32_t{1} << __builtin_popcount(m)) - 1;
        _mm256_mask_storeu_epi16(words, static_cast<__mmask16>(kept), _mm512_cvtepi32_epi16(front));
    }
    // Exact for a / b < 2^17: the float quotient is off by less than one either way.
    static U divide(U a, U b) {
        const __m512 q = _mm512_div_ps(_mm512_cvtepu32_ps(a), _mm512_cvtepu32_ps(b));
        U quotient = _mm512_cvttps_epu32(q);
        const U rest = sub(a, mul(quotient, b));
        const Mask high = _mm512_cmplt_epi32_mask(rest, _mm512_setzero_si512());
        quotient = _mm512_mask_sub_epi32(quotient, high, quotient, set(1));
        return add_one(_mm512_cmpge_epi32_mask(rest, b), quotient);
    }

    using F = __m512;
    static F load_floats(const float* from) { return _mm512_loadu_ps(from); }
    static F floats(float value) { return _mm512_set1_ps(value); }
    static U as_bits(F a) { return _mm512_castps_si512(a); }
    static F plus(F a, F b) { return _mm512_add_ps(a, b); }
    static F minus(F a, F b) { return _mm512_sub_ps(a, b); }
    static F times(F a, F b) { return _mm512_mul_ps(a, b); }
    // a > b ? a : b and a < b ? a : b, so b where a is NaN.
    static F larger(F a, F b) { return _mm512_max_ps(a, b); }
    static F smaller(F a, F b) { return _mm512_min_ps(a, b); }
    static F to_float(U a) { return _mm512_cvtepi32_ps(a); }
    static U truncate(F a) { return _mm512_cvttps_epi32(a); }
    // base[at], of 16 bits; reads 16 bits more.
    static U gather_words(const uint16_t* base, U at) {
        return bit_and(_mm512_i32gather_epi32(at, base, 2), set(0xffff));
    }
};

}  // namespace
}  // namespace rans
}  // namespace flic
