// From (mean, scale) to a table index and a center. Compiles for the host and for CUDA.
#pragma once

#include <cstdint>
#include <cstring>

#include "base/isa.h"
#include "rans/core.h"

namespace flic {
namespace rans {

// The grid of the Gaussian tables: scales have eight levels an octave from 2^-7 to 2^8, whose
// thresholds are exact float32 numbers, so that a level is read from the bits of the scale; level
// 120 takes what lies above. Level l divides the fraction of the mean, -0.5 to 0.5, into
// row_size[l] (a power of two) equal cells, which are cells[row_first[l] ..].
using GaussianGrid = FlicGaussianGrid;

constexpr int kGaussianLevels = 121;
constexpr uint32_t kFirstThreshold = 0x3c000000u;  // the bits of 2^-7
constexpr float kScaleFloor = 0.01f;
constexpr float kScaleCeiling = 256.0f;
constexpr float kMeanLimit = 1048576.0f;       // 2^20: beyond it the center is clamped
constexpr float kRoundingShift = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer

FLIC_HD uint32_t float_bits(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

FLIC_HD bool is_finite(float value) { return (float_bits(value) & 0x7f800000u) != 0x7f800000u; }

// Exact for all finite input: one rounding to an integer, a difference that float32 can hold, and
// a product with a power of two.
FLIC_HD int32_t gaussian_index(const GaussianGrid& grid, float mean, float scale, int32_t* center) {
    float s = scale > kScaleFloor ? scale : kScaleFloor;
    s = s < kScaleCeiling ? s : kScaleCeiling;
    const uint32_t level = (float_bits(s) - kFirstThreshold) >> 20;
    float m = mean > -kMeanLimit ? mean : -kMeanLimit;
    m = m < kMeanLimit ? m : kMeanLimit;
    const float rounded = (m + kRoundingShift) - kRoundingShift;
    *center = static_cast<int32_t>(rounded);
    const int32_t size = grid.row_size[level];
    const int32_t cell = static_cast<int32_t>((m - rounded + 0.5f) * static_cast<float>(size));
    return grid.cells[grid.row_first[level] + (cell < size ? cell : size - 1)];
}

// Host only: the arrays of one call.
struct GaussianSpan {
    const float* means;
    const float* scales;
    int64_t count;
    int32_t* indexes;
    int32_t* centers;
};

// Returns a status.
FLIC_FOR_EACH_ISA(int gaussian_indexes(const GaussianGrid& grid, const GaussianSpan& span))

}  // namespace rans
}  // namespace flic
