// soft_fma against the hardware's: random triples, many of them close to ties, cancellation and
// subnormal results.
// Compiled with -mfma on x86-64. Argument: how many triples. Exits 1 where a bit differs.
#include "simd/soft_fma.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <random>

namespace {

float from_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

bool finite(float x) { return x - x == 0; }

// An addend whose exponent is near the product's, few of its bits set: sums that cancel or meet
// ties.
float near_product(float a, float b, uint64_t random) {
    uint32_t bits;
    const float product = a * b;
    memcpy(&bits, &product, 4);
    int exponent = static_cast<int>(bits >> 23 & 255) + static_cast<int>(random % 64) - 32;
    exponent = exponent < 0 ? 0 : exponent > 254 ? 254 : exponent;
    const uint32_t fraction = (random >> 32 & 0x7fffff) & ~((1u << (random >> 8 & 31)) - 1);
    return from_bits(static_cast<uint32_t>(random >> 63) << 31 | exponent << 23 | fraction);
}

}  // namespace

int main(int argc, char** argv) {
    const long count = argc > 1 ? atol(argv[1]) : 1000000;
    std::mt19937_64 random(1);
    long wrong = 0;
    for (long i = 0; i < count; ++i) {
        const uint64_t r = random();
        float a = from_bits(static_cast<uint32_t>(r)),
              b = from_bits(static_cast<uint32_t>(r >> 32));
        float c = from_bits(static_cast<uint32_t>(random()));
        if (i % 5 == 1) c = near_product(a, b, random());
        if (i % 5 == 2) {  // the product is a tie of 25 bits, the addend just pushes it off
            a = static_cast<float>(r % 4096 | 2049);
            b = static_cast<float>((r >> 12) % 8192 | 4097);
            c = from_bits((r >> 63) << 31 | (40 + (r >> 32) % 60) << 23 | (r >> 40 & 0x7fffff));
        }
        if (i % 5 ==
            3) {  // the addend's last bit is worth 2, the product 1 - 2^-2m or 1 + 2^1-m + ...
            const float step = from_bits((127u - (13 + r % 11)) << 23);
            a = 1 + step, b = r >> 62 & 1 ? 1 - step : 1 + step;
            c = static_cast<float>((1u << 23) + (r >> 32 & 0x7fffff)) * (r >> 63 ? 2 : -2);
        }
        if (i % 5 == 4) {  // results around the subnormal range
            a = from_bits((static_cast<uint32_t>(r) & 0x807fffff) | 64u << 23);
            b = from_bits((static_cast<uint32_t>(r >> 32) & 0x807fffff) | (50u + i % 30) << 23);
            c = from_bits(static_cast<uint32_t>(random()) & 0x81ffffff);
        }
        if (!finite(a) || !finite(b) || !finite(c)) continue;
        const float soft = soft_fma(a, b, c), hard = __builtin_fmaf(a, b, c);
        if (memcmp(&soft, &hard, 4) && wrong++ < 5) {
            printf("%a * %a + %a: %a, not %a\n", a, b, c, soft, hard);
        }
    }
    printf("%ld triples, %ld wrong\n", count, wrong);
    return wrong != 0;
}
