// The shape of a tile of sums in registers, for the instruction set of the including file.
#pragma once
#include "simd/arithmetic.h"

namespace {

// Vectors of a row at most, and rows by vectors.
#if defined(FLIC_LANES_AVX512)
constexpr int kWidest = 4;
constexpr int tile_rows(int vectors) {  // 32 registers: sums, a panel's row of weights, one value
    return vectors == 4 ? 6 : vectors == 3 ? 8 : 12;
}
#elif defined(FLIC_LANES_AVX2)
constexpr int kWidest = 1;
constexpr int tile_rows(int) { return 6; }
#else
constexpr int kWidest = 1;
constexpr int tile_rows(int) { return 4; }
#endif

}  // namespace
