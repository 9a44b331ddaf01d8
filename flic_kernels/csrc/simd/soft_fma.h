// Fused multiply-add of float32 values where the hardware has none.
//
// The product of two floats is exact in a double. Its sum with the third is rounded to odd
// (truncated, then the last bit set if anything was lost), so that the final rounding to float sees
// on which side of every tie the exact value lies (Boldo and Melquiond, "Emulation of a FMA and
// correctly rounded sums", 2008). Needs round-to-nearest.
#pragma once
#include <stdint.h>
#include <string.h>

namespace {

inline float soft_fma(float a, float b, float c) {
    const double product = static_cast<double>(a) * static_cast<double>(b);
    const double addend = c;
    const double sum = product + addend;
    const double back = sum - product;
    const double lost = (product - (sum - back)) + (addend - back);  // TwoSum: sum + lost is exact
    uint64_t bits, lost_bits;
    memcpy(&bits, &sum, 8);
    memcpy(&lost_bits, &lost, 8);
    const uint64_t inexact = (lost < 0.0) | (lost > 0.0);  // not where the sum is infinite or NaN
    const uint64_t away = ((bits ^ lost_bits) >> 63) & inexact;  // |sum| was rounded up
    bits = (bits - away) | inexact;
    double odd;
    memcpy(&odd, &bits, 8);
    return static_cast<float>(odd);
}

}  // namespace
