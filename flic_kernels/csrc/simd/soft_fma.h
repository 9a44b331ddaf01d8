// Fused multiply-add of float32 values where the hardware has none.
//
// The product of two floats is exact in a double. Its sum with the third is rounded to odd
// (truncated, then the last bit set if anything was lost), so that the final rounding to float sees
// on which side of every tie the exact value lies (Boldo and Melquiond, "Emulation of a FMA and
// correctly rounded sums", 2008). A double holds the smallest product, 2^-298, and the largest sum,
// 2^257: subnormal results and overflow are left to the final rounding. Needs round-to-nearest.
#pragma once
#include <stdint.h>
#include <string.h>

namespace {

template <class To, class From>
inline __attribute__((always_inline)) To bits_as(From from) {
    static_assert(sizeof(To) == sizeof(From), "the same bits");
    To to;
    memcpy(&to, &from, sizeof to);
    return to;
}

// product + addend, rounded to odd. Double is double and Bits is uint64_t, or both are a compiler's
// vectors of them; there are no branches.
template <class Double, class Bits>
inline __attribute__((always_inline)) Double sum_to_odd(Double product, Double addend) {
    const Bits zero = {}, one = zero + 1, magnitude = ~zero >> 1;
    const Double sum = product + addend;
    const Double back = sum - product;
    const Double lost = (product - (sum - back)) + (addend - back);  // TwoSum: sum + lost is exact
    const Bits bits = bits_as<Bits>(sum), lost_bits = bits_as<Bits>(lost);
    // False where the sum is infinite or NaN: there, what was lost is NaN.
    const Bits inexact = bits_as<Double>(lost_bits & magnitude) > Double{} ? one : zero;
    const Bits away = ((bits ^ lost_bits) >> 63) & inexact;  // |sum| was rounded up: one step back
    return bits_as<Double>((bits - away) | inexact);
}

// A result may be a factor of the next product. gcc 12 takes (double)(float)x for x where it makes
// vectors of both conversions (tests/native/soft_fma.cpp would see it), so it must not see both.
template <class T>
inline __attribute__((always_inline)) void keep_rounded(T& result) {
#if defined(__GNUC__) && !defined(__clang__)
    __asm__("" : "+m"(result));
#else
    (void)result;
#endif
}

inline float soft_fma(float a, float b, float c) {
    const double product = static_cast<double>(a) * static_cast<double>(b);
    float result = static_cast<float>(sum_to_odd<double, uint64_t>(product, c));
    keep_rounded(result);
    return result;
}

}  // namespace
