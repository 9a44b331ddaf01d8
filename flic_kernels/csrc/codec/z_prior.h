// Tables of z: the factorised prior (Ballé et al., 2018, appendix 6.1) on integers
// (docs/format.md).
#pragma once

#include "rans/tables.h"

namespace flic {
namespace codec {

constexpr int kPriorLayers = 5;

// A table for each channel of z, of the integers about its median. Training evaluates the prior, a
// small network for each channel, with the framework's functions; coding needs integers on which
// two machines agree, so here it is float64 additions, multiplications and divisions in one order.
//
// The state dict's parameters: quantiles [C, 1, 3]; matrices [C, out, in], biases [C, out, 1] and
// factors [C, out, 1] of each layer, whose widths are 1, 3, 3, 3, 3, 1. In the default float
// environment. Throws Error: one is NaN or infinity, or too large to compute with.
rans::TableRows z_tables(int channels, const float* quantiles,
                         const float* const matrices[kPriorLayers],
                         const float* const biases[kPriorLayers],
                         const float* const factors[kPriorLayers - 1]);

}  // namespace codec
}  // namespace flic
