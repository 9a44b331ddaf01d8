// Weights packed as pairs of bfloat16, [k / 2][column][2], for instructions that multiply and add
// two k at a time. For files compiled with AVX-512 BF16.
#pragma once
#include "cpu/product/finish.h"

namespace {

using flic::cpu::PackTask;

constexpr int kPairBytes = 2 * sizeof(Bfloat16);

// Where the pairs of one part begin, and the way from pair to pair, in 32-bit words.
FLIC_INLINE uint32_t* pairs_of_part(const PackTask& t, ptrdiff_t part) {
    const ptrdiff_t pairs = t.panels.padded_length / 2;
    return static_cast<uint32_t*>(t.panel) + part * pairs * t.width + t.column;
}

FLIC_INLINE __m512i load_words(const uint32_t* p) { return _mm512_loadu_si512(p); }

// Zeros from pair `from` of a part on.
FLIC_INLINE void clear_pairs(const PackTask& t, ptrdiff_t part, ptrdiff_t from) {
    uint32_t* const to = pairs_of_part(t, part);
    for (ptrdiff_t pair = from; pair < t.panels.padded_length / 2; ++pair) {
        _mm512_storeu_si512(to + pair * t.width, _mm512_setzero_si512());
    }
}

// One tap: pairs lie side by side in the source, so blocks of 16 x 16 pairs are transposed.
inline void pack_one_tap(const PackTask& t) {
    uint32_t* const to = pairs_of_part(t, 0);
    for (ptrdiff_t k = 0; k < t.channels; k += 2 * kLanes) {
        const int count = static_cast<int>(t.channels - k < 32 ? t.channels - k : 32);
        const __mmask32 mask = count == 32 ? ~__mmask32{0} : (__mmask32{1} << count) - 1;
        Lanes block[kLanes];
        FLIC_UNROLL for (int i = 0; i < kLanes; ++i) {
            const Bfloat16* const from = static_cast<const Bfloat16*>(t.from[i]);
            block[i] = from ? Lanes{_mm512_castsi512_ps(_mm512_maskz_loadu_epi16(mask, from + k))}
                            : Lanes::set(0.0f);
        }
        transpose(block);
        for (int j = 0; j < (count + 1) / 2; ++j) {
            block[j].store(reinterpret_cast<float*>(to + (k / 2 + j) * t.width));
        }
    }
    clear_pairs(t, 0, (t.channels + 1) / 2);
}

// Several taps: 16 channels of all taps at a time are transposed into a buffer, one weight of 16
// columns a row, and the rows joined in pairs.
inline void pack_taps(const PackTask& t) {
    constexpr int kMostTaps = 9;
    alignas(64) uint32_t rows[kLanes * kMostTaps + kLanes][kLanes];
    const int taps_of_part = t.taps / t.panels.parts;
    // With an odd number of channels a pair may be of two taps, and is put together by halves.
    const bool even = t.channels % 2 == 0;
    for (int part = 0; part < t.panels.parts; ++part) {
        clear_pairs(t, part, even ? t.panels.length / 2 : 0);
    }
    for (int channel = 0; channel < t.channels; channel += kLanes) {
        const int channels = t.channels - channel < kLanes ? t.channels - channel : kLanes;
        const ptrdiff_t first = static_cast<ptrdiff_t>(channel) * t.taps;
        const int count = channels * t.taps;
        for (int k = 0; k < count; k += kLanes) {
            const int run = count - k < kLanes ? count - k : kLanes;
            Lanes block[kLanes];
            FLIC_UNROLL for (int i = 0; i < kLanes; ++i) {
                const Bfloat16* const from = static_cast<const Bfloat16*>(t.from[i]);
                block[i] = from ? load_first(from + first + k, run) : Lanes::set(0.0f);
            }
            transpose(block);
            FLIC_UNROLL for (int j = 0; j < kLanes; ++j) {
                block[j].store(reinterpret_cast<float*>(rows[k + j]));
            }
        }
        for (int tap = 0; tap < t.taps; ++tap) {
            uint32_t* const to = pairs_of_part(t, tap / taps_of_part);
            const ptrdiff_t k = static_cast<ptrdiff_t>(tap % taps_of_part) * t.channels + channel;
            const auto row = [&](int c) { return _mm512_load_si512(rows[c * t.taps + tap]); };
            const auto low = [&](int c) {
                return _mm512_maskz_srli_epi32(Lanes::kAll, row(c), 16);
            };
            const auto pair = [&](int c) { return to + (k + c) / 2 * t.width; };
            if (even) {
                for (int c = 0; c < channels; c += 2) {
                    _mm512_storeu_si512(pair(c), _mm512_or_si512(low(c), row(c + 1)));
                }
            } else {
                for (int c = 0; c < channels; ++c) {
                    const __m512i half = (k + c) % 2 ? row(c) : low(c);
                    _mm512_storeu_si512(pair(c), _mm512_or_si512(load_words(pair(c)), half));
                }
            }
        }
    }
}

inline void pack_pairs(const PackTask& t) { t.taps == 1 ? pack_one_tap(t) : pack_taps(t); }

inline void pack_row_pairs(const PackTask& t) {
    const Bfloat16* from = static_cast<const Bfloat16*>(t.first);
    uint32_t* const to = pairs_of_part(t, 0);
    const auto row = [&](ptrdiff_t k) {
        const __m256i bits = _mm256_maskz_loadu_epi16(first_lanes(k < t.channels ? t.count : 0),
                                                      from + k * t.stride);
        return _mm512_cvtepu16_epi32(bits);
    };
    for (ptrdiff_t k = 0; k < t.channels; k += 2) {
        const __m512i high = _mm512_maskz_slli_epi32(Lanes::kAll, row(k + 1), 16);
        _mm512_storeu_si512(to + k / 2 * t.width, _mm512_or_si512(row(k), high));
    }
    clear_pairs(t, 0, (t.channels + 1) / 2);
}

}  // namespace
