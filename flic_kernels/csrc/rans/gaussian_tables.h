// The integers of the Gaussian tables (docs/format.md).
#pragma once

#include <cstdint>
#include <vector>

#include "include/flic_kernels.h"
#include "rans/tables.h"

namespace flic {
namespace rans {

// The grid is that of rans/gaussian.h.
struct GaussianTables {
    TableRows rows;
    std::vector<int32_t> row_first, row_size;
    std::vector<uint16_t> cells;
};

// Tables of round(normal(mean, scale)): one for each cell of a grid of scale levels by fractions of
// the mean; cells that would differ by nothing share one. Computed on every call, in the default
// float environment.
GaussianTables gaussian_tables();

}  // namespace rans
}  // namespace flic

// Without a grid where the tables are no Gaussian ones.
struct FlicTableRows final : flic::rans::GaussianTables {};
