// soft_fma, alone and in the plain Lanes, against the hardware's fma: all triples of special
// values, then random ones, most of them made to be close to ties, cancellation, overflow or
// subnormal results.
//
// Argument: how many random triples. Exits 1 where a bit differs; NaN must be NaN, its payload is
// free.
#define FLIC_LANES_SCALAR
#define FLIC_SOFT_FMA
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <vector>

#include "simd/lanes.h"

namespace {

constexpr int kBlock = 4096;

struct Triples {
    float a[kBlock], b[kBlock], c[kBlock];
};

uint64_t random_bits() {  // xorshift64*
    static uint64_t state = 1;
    state ^= state >> 12, state ^= state << 25, state ^= state >> 27;
    return state * 0x2545f4914f6cdd1d;
}

float from_bits(uint32_t bits) { return bits_as<float>(bits); }

int below(int n) { return static_cast<int>((random_bits() >> 32) * n >> 32); }

float sign(float x) { return random_bits() >> 63 ? -x : x; }

// Of this exponent field, 0 to 254; half of the time only the fraction's high bits are set.
float of_exponent(int field) {
    const uint64_t r = random_bits();
    const uint32_t high = ~uint32_t{0} << (r >> 58 & 1 ? 0 : (r >> 32) % 24);
    field = field < 0 ? 0 : field > 254 ? 254 : field;
    return from_bits(static_cast<uint32_t>(r >> 63) << 31 | static_cast<uint32_t>(field) << 23 |
                     (static_cast<uint32_t>(r) & 0x7fffff & high));
}

int exponent(float x) { return static_cast<int>(bits_as<uint32_t>(x) >> 23 & 255); }

float ulps_away(float x, int ulps) { return from_bits(bits_as<uint32_t>(x) + ulps); }

void make(int kind, float* a, float* b, float* c) {
    const uint64_t r = random_bits();
    *a = of_exponent(97 + below(61)), *b = of_exponent(97 + below(61));
    switch (kind) {
        case 0:  // any bits at all
            *a = from_bits(static_cast<uint32_t>(r)), *b = from_bits(r >> 32);
            *c = from_bits(random_bits() >> 32);
            break;
        case 1:  // an addend of about the product's size
            *c = of_exponent(exponent(*a * *b) + below(9) - 4);
            break;
        case 2:  // of any distance from which it still counts
            *c = of_exponent(exponent(*a * *b) + below(128) - 64);
            break;
        case 3:  // cancellation: what the product's rounding lost, or a few units more
            *c = ulps_away(-(*a * *b), below(5) - 2);
            break;
        case 4:  // the product is a tie of 25 bits, the addend pushes it off or is zero
            *a = sign(r % 4096 | 2049), *b = (r >> 12) % 8192 | 4097;
            *c = r >> 60 ? of_exponent(1 + below(140)) : sign(0.0f);
            break;
        case 5: {  // the addend's last bit is worth 2, the product 1, 1 - 2^-2m or 1 + 2^(1-m) + ..
            const float step = from_bits((127u - (12 + r % 12)) << 23);
            *a = 1 + step, *b = r >> 62 == 0 ? 1.0f : r >> 62 == 1 ? 1 + step : 1 - step;
            if (r >> 62 == 0) *a = 1;
            *c = sign(2.0f * static_cast<float>((1u << 23) + (r >> 32 & 0x7fffff)));
            break;
        }
        case 6: {  // results around 2^-126 and 2^-149, also from products far below those
            const int product = 127 * 2 - 175 + below(60), field = 20 + below(product);
            *a = of_exponent(field), *b = of_exponent(product - field);
            *c = of_exponent(below(4) ? below(3) : below(24));
            if (r % 5 == 0) *c = sign(from_bits(below(4)));
            break;
        }
        case 7:  // subnormal operands, and results that are halves of the smallest number
            *a = sign(from_bits(1 + (r & 0x7fffff))), *b = of_exponent(80 + below(50));
            *c = sign(from_bits(random_bits() & 0x7fffff));
            if (r >> 62 == 0) *a = sign(from_bits(1 + (r & 7))), *b = 0.5f;
            break;
        case 8:  // around the largest number, and beyond
            *a = of_exponent(250 + below(5)), *b = of_exponent(126 + below(5));
            *c = of_exponent(r % 3 ? 228 + below(4) : 252 + below(3));
            if (r >> 61 == 0) *a = ulps_away(sign(3.4028234664e38f), -below(3)), *b = 1;
            break;
        default:  // exact zeros, with a sign
            if (r & 1) *a = sign(0.0f);
            if (r & 2) *b = sign(0.0f);
            *c = r & 4 ? sign(0.0f) : r & 8 ? -(*a * *b) : of_exponent(below(255));
            if ((r & 7) == 4) *a = sign(of_exponent(below(40))), *b = of_exponent(below(40));
            break;
    }
}
constexpr int kKinds = 10;

std::vector<float> special_values() {
    std::vector<float> all;
    const uint32_t bits[] = {
        0,          1,          2,          3,          0x007fffff,  // 0, subnormal
        0x00800000, 0x00800001, 0x00ffffff, 0x01000000,              // the smallest normal
        0x0c000000, 0x1a000000, 0x1a800000, 0x1f800000, 0x1fffffff,  // products at the bottom
        0x33800000, 0x33ffffff, 0x34000000, 0x3effffff, 0x3f000000, 0x3f7fffff, 0x3f800000,
        0x3f800001, 0x3fc00000, 0x3fffffff, 0x40000000, 0x4b000001, 0x4b800000, 0x4b800001,
        0x5f7fffff, 0x5f800000, 0x72ffffff, 0x73000000, 0x73000001,  // products at the top
        0x7effffff, 0x7f000000, 0x7f7ffffe, 0x7f7fffff,              // the largest
        0x7f800000, 0x7fc00000, 0x7f800001, 0x7fffffff};             // infinity, NaN
    for (const uint32_t b : bits)
        all.push_back(from_bits(b)), all.push_back(from_bits(b | 1u << 31));
    return all;
}

#if defined(__x86_64__)
__attribute__((target("fma")))
#endif
void hardware(const Triples& t, float* out, float* chain) {
    for (int i = 0; i < kBlock; ++i) {
        out[i] = __builtin_fmaf(t.a[i], t.b[i], t.c[i]);
        chain[i] = __builtin_fmaf(out[i], t.a[i], t.b[i]);
    }
}

bool same(float x, float y) { return !memcmp(&x, &y, 4) || (x != x && y != y); }

long wrong = 0;

void compare(const Triples& t, const float* expected, const float* found, const char* what) {
    for (int i = 0; i < kBlock; ++i) {
        if (same(found[i], expected[i]) || wrong++ >= 5) continue;
        printf("%s of %a * %a + %a: %a, not %a\n", what, t.a[i], t.b[i], t.c[i], found[i],
               expected[i]);
    }
}

// One result, and one whose factor is a result that nothing stores: a compiler may not take it for
// the double that it was.
void compare(const Triples& t) {
    static float expected[kBlock], expected_chain[kBlock], found[kBlock], chain[kBlock];
    hardware(t, expected, expected_chain);
    for (int i = 0; i < kBlock; i += kLanes) {
        const Lanes a = Lanes::load(t.a + i), b = Lanes::load(t.b + i), c = Lanes::load(t.c + i);
        Lanes::fma(a, b, c).store(found + i);
    }
    compare(t, expected, found, "lane");
    for (int i = 0; i < kBlock; i += kLanes) {
        const Lanes a = Lanes::load(t.a + i), b = Lanes::load(t.b + i), c = Lanes::load(t.c + i);
        Lanes::fma(Lanes::fma(a, b, c), a, b).store(chain + i);
    }
    compare(t, expected_chain, chain, "chain of lanes");
    for (int i = 0; i < kBlock; ++i) found[i] = soft_fma(t.a[i], t.b[i], t.c[i]);
    compare(t, expected, found, "soft_fma");
    for (int i = 0; i < kBlock; ++i) {
        chain[i] = soft_fma(soft_fma(t.a[i], t.b[i], t.c[i]), t.a[i], t.b[i]);
    }
    compare(t, expected_chain, chain, "chain of soft_fma");
}

}  // namespace

int main(int argc, char** argv) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("fma")) {
        printf("this processor has no fma to compare with\n");
        return 1;
    }
#endif
    const long count = argc > 1 ? atol(argv[1]) : 1000000;
    static Triples triples;
    int filled = 0;
    const std::vector<float> special = special_values();
    for (const float a : special) {
        for (const float b : special) {
            for (const float c : special) {
                triples.a[filled] = a, triples.b[filled] = b, triples.c[filled] = c;
                if (++filled == kBlock) compare(triples), filled = 0;
            }
        }
    }
    compare(triples);  // what is left, and some of the block before
    for (long done = 0; done < count; done += kBlock) {
        for (int i = 0; i < kBlock; ++i) {
            make(i % kKinds, &triples.a[i], &triples.b[i], &triples.c[i]);
        }
        compare(triples);
    }
    printf("%ld triples, %ld wrong\n", count, wrong);
    return wrong != 0;
}
