// From probabilities to frequencies (docs/format.md): float64, one order of operations.
#pragma once

#include <cstdint>
#include <vector>

#include "rans/tables.h"

namespace flic {
namespace rans {

// Appends the frequencies of `count` probabilities and the escape's, which takes what they lack to
// 1 (what adds up to more is normalised): every one gets a slot, and the rest is shared out in
// proportion to what each lacks, rounding the running total. Throws Error: one is not finite or
// negative, or there are more than 32767.
void append_frequencies(std::vector<int32_t>& frequencies, const double* probabilities,
                        int64_t count);

// Appends a table of them, whose first symbol is `minimum`.
void append_table(TableRows& rows, int32_t minimum, const double* probabilities, int64_t count);

}  // namespace rans
}  // namespace flic
