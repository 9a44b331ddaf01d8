// V (vectors.h): eight lanes in an AVX2 register.
#pragma once

#include <immintrin.h>

#include <array>

#include "rans/lane_coder.h"

namespace flic {
namespace rans {
namespace {

// Byte shuffles of eight words, one for each mask of lanes. Expand: the first words go to the lanes
// of the mask. Compress: the words of the lanes of the mask go, in order, to the end.
struct Shuffles {
    alignas(16) uint8_t expand[256][16];
    alignas(16) uint8_t compress[256][16];
};

constexpr Shuffles make_shuffles() {
    Shuffles all{};
    for (int mask = 0; mask < 256; ++mask) {
        int count = 0;
        for (int lane = 0; lane < 8; ++lane) count += mask >> lane & 1;
        int from = 0, to = 8 - count;
        for (int byte = 0; byte < 16; ++byte) all.compress[mask][byte] = 128;
        for (int lane = 0; lane < 8; ++lane) {
            const bool in = mask >> lane & 1;
            for (int half = 0; half < 2; ++half) {
                all.expand[mask][2 * lane + half] =
                    static_cast<uint8_t>(in ? 2 * from + half : 128);
                if (in) all.compress[mask][2 * to + half] = static_cast<uint8_t>(2 * lane + half);
            }
            from += in;
            to += in;
        }
    }
    return all;
}

constexpr Shuffles kShuffles = make_shuffles();

struct V {
    using U = __m256i;
    using Mask = __m256i;
    static constexpr int width = 8;

    static U set(uint32_t value) { return _mm256_set1_epi32(static_cast<int>(value)); }
    static U load(const void* from) {
        return _mm256_loadu_si256(static_cast<const __m256i*>(from));
    }
    static void store(void* to, U a) { _mm256_storeu_si256(static_cast<__m256i*>(to), a); }
    static __m128i load_half(const void* from) {
        return _mm_loadu_si128(static_cast<const __m128i*>(from));
    }
    static U load_wide(const int32_t* from) { return load(from); }
    static U load_wide(const uint16_t* from) { return _mm256_cvtepu16_epi32(load_half(from)); }
    static U load_wide(const int16_t* from) { return _mm256_cvtepi16_epi32(load_half(from)); }
    static U load_wide(const int8_t* from) {
        return _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)));
    }
    static U gather(const uint32_t* base, U at) {
        return _mm256_i32gather_epi32(reinterpret_cast<const int*>(base), at, 4);
    }
    // The low and the high halves of 64-bit records.
    static void gather_pairs(const void* base, U at, U& low, U& high) {
        const auto* records = static_cast<const long long*>(base);
        const U a = _mm256_i32gather_epi64(records, _mm256_castsi256_si128(at), 8);
        const U b = _mm256_i32gather_epi64(records, _mm256_extracti128_si256(at, 1), 8);
        const __m256 x = _mm256_castsi256_ps(_mm256_permute2x128_si256(a, b, 0x20));
        const __m256 y = _mm256_castsi256_ps(_mm256_permute2x128_si256(a, b, 0x31));
        // x holds records 0, 1, 4, 5 and y 2, 3, 6, 7: the shuffles put them in order.
        low = _mm256_castps_si256(_mm256_shuffle_ps(x, y, 0x88));
        high = _mm256_castps_si256(_mm256_shuffle_ps(x, y, 0xdd));
    }
    static U add(U a, U b) { return _mm256_add_epi32(a, b); }
    static U sub(U a, U b) { return _mm256_sub_epi32(a, b); }
    static U mul(U a, U b) { return _mm256_mullo_epi32(a, b); }
    static U min(U a, U b) { return _mm256_min_epu32(a, b); }
    static U max(U a, U b) { return _mm256_max_epu32(a, b); }
    static U bit_and(U a, U b) { return _mm256_and_si256(a, b); }
    static U bit_or(U a, U b) { return _mm256_or_si256(a, b); }
    template <int n>
    static U shr(U a) {
        return _mm256_srli_epi32(a, n);
    }
    template <int n>
    static U shl(U a) {
        return _mm256_slli_epi32(a, n);
    }
    static U shr_by(U a, U n) { return _mm256_srlv_epi32(a, n); }
    static U sign_extend_low(U a) { return _mm256_srai_epi32(_mm256_slli_epi32(a, 16), 16); }
    static U choose(Mask m, U yes, U no) { return _mm256_blendv_epi8(no, yes, m); }
    static U add_one(Mask m, U a) { return sub(a, m); }
    static Mask not_less(U a, U b) { return _mm256_cmpeq_epi32(max(a, b), a); }
    static Mask not_equal(U a, U b) { return _mm256_xor_si256(_mm256_cmpeq_epi32(a, b), set(~0u)); }
    static Mask below_low(U a) {
        return _mm256_cmpeq_epi32(shr<kWordBits>(a), _mm256_setzero_si256());
    }
    static uint32_t bits(Mask m) {
        return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(m)));
    }
    static uint32_t any_bit(U a, uint32_t bit) {
        return bits(_mm256_cmpeq_epi32(bit_and(a, set(bit)), set(bit)));
    }
    // The next words, in order, at the lanes of `reading`.
    static U expand(const uint8_t* words, uint32_t reading) {
        return _mm256_cvtepu16_epi32(
            _mm_shuffle_epi8(load_half(words), load_half(kShuffles.expand[reading])));
    }
    // The low words of the lanes in m, in order. What lies before them is overwritten with zeros:
    // nothing is there yet.
    static void compress(uint8_t* words, Mask m, U a) {
        const uint32_t emitting = bits(m);
        const U low = bit_and(a, set(0xffff));
        const __m128i packed =
            _mm_packus_epi32(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1));
        const __m128i end = _mm_shuffle_epi8(packed, load_half(kShuffles.compress[emitting]));
        uint8_t* const to = words + 2 * __builtin_popcount(emitting) - 16;
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to), end);
    }
    // Exact for a / b < 2^17: the float quotient (of a without its lowest bit, which makes it a
    // signed number) is off by less than one below 2^24 / b, and by less than two thirds above.
    static U divide(U a, U b) {
        const __m256 half = _mm256_cvtepi32_ps(shr<1>(a));
        const __m256 q = _mm256_div_ps(_mm256_add_ps(half, half), _mm256_cvtepi32_ps(b));
        U quotient = _mm256_cvttps_epi32(q);
        const U rest = sub(a, mul(quotient, b));
        quotient = add(quotient, _mm256_srai_epi32(rest, 31));
        // Where rest was negative it is not above b - 1 now either.
        return sub(quotient, _mm256_cmpgt_epi32(rest, sub(b, set(1))));
    }

    using F = __m256;
    static F load_floats(const float* from) { return _mm256_loadu_ps(from); }
    static F floats(float value) { return _mm256_set1_ps(value); }
    static U as_bits(F a) { return _mm256_castps_si256(a); }
    static F plus(F a, F b) { return _mm256_add_ps(a, b); }
    static F minus(F a, F b) { return _mm256_sub_ps(a, b); }
    static F times(F a, F b) { return _mm256_mul_ps(a, b); }
    // a > b ? a : b and a < b ? a : b, so b where a is NaN.
    static F larger(F a, F b) { return _mm256_max_ps(a, b); }
    static F smaller(F a, F b) { return _mm256_min_ps(a, b); }
    static F to_float(U a) { return _mm256_cvtepi32_ps(a); }
    static U truncate(F a) { return _mm256_cvttps_epi32(a); }
    // base[at], of 16 bits; reads 16 bits more.
    static U gather_words(const uint16_t* base, U at) {
        return bit_and(_mm256_i32gather_epi32(reinterpret_cast<const int*>(base), at, 2),
                       set(0xffff));
    }
};

}  // namespace
}  // namespace rans
}  // namespace flic
