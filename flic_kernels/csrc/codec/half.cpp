#include "codec/half.h"

#include <string.h>

#include "base/isa.h"

#if defined(FLIC_X86_64)
#include <immintrin.h>
#endif

namespace flic::codec {
namespace {

uint32_t load16(const uint8_t* from) { return from[0] | uint32_t{from[1]} << 8; }

// In integers: float arithmetic would lose subnormal numbers where the processor's mode says so.
uint32_t float16_bits(uint32_t half) {
    const uint32_t sign = (half & 0x8000) << 16;
    const uint32_t exponent = half >> 10 & 31;
    uint32_t mantissa = half & 0x3ff;
    if (exponent == 31) return sign | 0x7f800000 | mantissa << 13;
    if (exponent > 0) return sign | (exponent + 112) << 23 | mantissa << 13;
    if (mantissa == 0) return sign;
    uint32_t field = 113;  // 2^-14, of which a subnormal number's mantissa is the fraction
    for (; !(mantissa & 0x400); mantissa <<= 1) --field;
    return sign | field << 23 | (mantissa & 0x3ff) << 13;
}

void widen_plain(const uint8_t* from, size_t count, float* to) {
    for (size_t i = 0; i < count; ++i) {
        const uint32_t bits = float16_bits(load16(from + 2 * i));
        memcpy(to + i, &bits, sizeof bits);
    }
}

#if defined(FLIC_X86_64)
__attribute__((target("avx,f16c"))) void widen_f16c(const uint8_t* from, size_t count, float* to) {
    constexpr size_t kLanes = 8;
    size_t i = 0;
    for (; i + kLanes <= count; i += kLanes) {
        const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + 2 * i));
        const __m256 values = _mm256_cvtph_ps(halves);
        if (_mm256_movemask_ps(_mm256_cmp_ps(values, values, _CMP_UNORD_Q))) {
            widen_plain(from + 2 * i, kLanes, to + i);  // the instruction makes NaNs quiet ones
        } else {
            _mm256_storeu_ps(to + i, values);
        }
    }
    widen_plain(from + 2 * i, count - i, to + i);
}
#endif

}  // namespace

void widen_float16(const uint8_t* from, size_t count, float* to) {
#if defined(FLIC_X86_64)
    if (isa() != Isa::scalar) return widen_f16c(from, count, to);
#endif
    widen_plain(from, count, to);
}

void widen_bfloat16(const uint8_t* from, size_t count, float* to) {
    for (size_t i = 0; i < count; ++i) {
        const uint32_t bits = load16(from + 2 * i) << 16;
        memcpy(to + i, &bits, sizeof bits);
    }
}

}  // namespace flic::codec
