#include "codec/sha256.h"

#include <string.h>

#include <algorithm>

#include "base/isa.h"

#if defined(FLIC_X86_64)
#include <cpuid.h>
#include <immintrin.h>
#endif

namespace flic::codec {
namespace {

alignas(16) constexpr uint32_t kRounds[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

using Compress = void (*)(uint32_t* state, const uint8_t* blocks, size_t count);

uint32_t rotate(uint32_t x, int by) { return x >> by | x << (32 - by); }

void compress_plain(uint32_t* state, const uint8_t* block, size_t count) {
    for (; count > 0; --count, block += 64) {
        uint32_t w[64];
        for (int i = 0; i < 16; ++i) {
            const uint8_t* p = block + 4 * i;
            w[i] = uint32_t{p[0]} << 24 | uint32_t{p[1]} << 16 | uint32_t{p[2]} << 8 | p[3];
        }
        for (int i = 16; i < 64; ++i) {
            const uint32_t x = w[i - 15], y = w[i - 2];
            w[i] = w[i - 16] + w[i - 7] + (rotate(x, 7) ^ rotate(x, 18) ^ x >> 3) +
                   (rotate(y, 17) ^ rotate(y, 19) ^ y >> 10);
        }
        uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
        uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
        for (int i = 0; i < 64; ++i) {
            const uint32_t choice = (e & f) ^ (~e & g), majority = (a & b) ^ (a & c) ^ (b & c);
            const uint32_t one =
                h + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + choice + kRounds[i] + w[i];
            const uint32_t two = (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + majority;
            h = g, g = f, f = e, e = d + one;
            d = c, c = b, b = a, a = one + two;
        }
        state[0] += a, state[1] += b, state[2] += c, state[3] += d;
        state[4] += e, state[5] += f, state[6] += g, state[7] += h;
    }
}

#if defined(FLIC_X86_64)
bool has_sha() {
    constexpr unsigned kSha = 1u << 29, kSsse3 = 1u << 9, kSse41 = 1u << 19;
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & kSsse3) && (c & kSse41) &&
           __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & kSha);
}

// The SHA extensions keep the state as ABEF and CDGH, from the highest lane to the lowest; an
// instruction computes two rounds, and the one that makes the new CDGH leaves the old ABEF there.
__attribute__((target("sha,sse4.1,ssse3"))) void compress_sha(uint32_t* state, const uint8_t* block,
                                                              size_t count) {
    const __m128i big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    __m128i* const stored = reinterpret_cast<__m128i*>(state);
    const __m128i badc = _mm_shuffle_epi32(_mm_loadu_si128(stored), 0xb1);
    const __m128i efgh = _mm_shuffle_epi32(_mm_loadu_si128(stored + 1), 0x1b);
    __m128i abef = _mm_alignr_epi8(badc, efgh, 8);
    __m128i cdgh = _mm_blend_epi16(efgh, badc, 0xf0);
    for (; count > 0; --count, block += 64) {
        const __m128i abef_before = abef, cdgh_before = cdgh;
        __m128i w[4];
        for (int i = 0; i < 4; ++i) {
            const __m128i* words = reinterpret_cast<const __m128i*>(block) + i;
            w[i] = _mm_shuffle_epi8(_mm_loadu_si128(words), big_endian);
        }
        for (int i = 0; i < 16; ++i) {
            const __m128i constants = _mm_load_si128(reinterpret_cast<const __m128i*>(kRounds) + i);
            const __m128i sum = _mm_add_epi32(w[i % 4], constants);
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, sum);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(sum, 0x0e));
            if (i >= 12) continue;
            const __m128i last = w[(i + 3) % 4];
            const __m128i seventh = _mm_alignr_epi8(last, w[(i + 2) % 4], 4);
            const __m128i partial = _mm_sha256msg1_epu32(w[i % 4], w[(i + 1) % 4]);
            w[i % 4] = _mm_sha256msg2_epu32(_mm_add_epi32(partial, seventh), last);
        }
        abef = _mm_add_epi32(abef, abef_before);
        cdgh = _mm_add_epi32(cdgh, cdgh_before);
    }
    const __m128i feba = _mm_shuffle_epi32(abef, 0x1b), dchg = _mm_shuffle_epi32(cdgh, 0xb1);
    _mm_storeu_si128(stored, _mm_blend_epi16(feba, dchg, 0xf0));
    _mm_storeu_si128(stored + 1, _mm_alignr_epi8(dchg, feba, 8));
}
#endif

Compress best() {
#if defined(FLIC_X86_64)
    if (has_sha()) return compress_sha;
#endif
    return compress_plain;
}

void compress(uint32_t* state, const uint8_t* blocks, size_t count) {
    static const Compress found = best();
    found(state, blocks, count);
}

}  // namespace

void Sha256::update(const void* data, size_t size) {
    if (size == 0) return;
    const uint8_t* bytes = static_cast<const uint8_t*>(data);
    const size_t filled = size_ % kBlock;
    size_ += size;
    if (filled > 0) {
        const size_t taken = std::min(size, kBlock - filled);
        memcpy(pending_ + filled, bytes, taken);
        bytes += taken, size -= taken;
        if (filled + taken < kBlock) return;
        compress(state_.data(), pending_, 1);
    }
    compress(state_.data(), bytes, size / kBlock);
    if (size % kBlock > 0) memcpy(pending_, bytes + size / kBlock * kBlock, size % kBlock);
}

std::array<uint8_t, 32> Sha256::digest() {
    const uint64_t bits = size_ * 8;
    const size_t filled = size_ % kBlock;
    uint8_t padding[kBlock + 8] = {0x80};
    // Up to the last 8 bytes of a block, of which there may be another one.
    const size_t zeros = (filled < 56 ? 56 : 120) - filled;
    for (int i = 0; i < 8; ++i) padding[zeros + i] = static_cast<uint8_t>(bits >> (56 - 8 * i));
    update(padding, zeros + 8);
    std::array<uint8_t, 32> out;
    for (size_t i = 0; i < out.size(); ++i) {
        out[i] = static_cast<uint8_t>(state_[i / 4] >> (24 - 8 * (i % 4)));
    }
    return out;
}

}  // namespace flic::codec
