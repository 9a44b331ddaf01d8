#include "rans/quantise.h"

#include <algorithm>
#include <cmath>

#include "base/errors.h"

namespace flic {
namespace rans {

void append_frequencies(std::vector<int32_t>& frequencies, const double* probabilities,
                        int64_t count) {
    require(count >= 0 && count < kTotal, "a table has at most 32767 probabilities");
    double mass = 0;
    for (int64_t k = 0; k < count; ++k) {
        const double p = probabilities[k];
        if (!std::isfinite(p)) throw Error(FLIC_NOT_FINITE, "a probability is NaN or infinity");
        require(p >= 0, "a probability is negative");
        mass += p;
    }
    const double divisor = std::max(mass, 1.0);
    std::vector<double> running(static_cast<size_t>(count) + 1);
    double total = 0;
    for (int64_t k = 0; k <= count; ++k) {
        const double p = k < count ? probabilities[k] / divisor : 1 - std::min(mass, 1.0);
        total += std::max(p * kTotal - 1, 0.0);
        running[k] = total;
    }
    // Where there are as many symbols as slots perhaps none lacks anything.
    if (total == 0) total = 1;
    const double shared = static_cast<double>(kTotal - 1 - count);
    int32_t before = 0;
    for (const double lacking : running) {
        const auto end = static_cast<int32_t>(lacking / total * shared + 0.5);
        frequencies.push_back(1 + end - before);
        before = end;
    }
}

void append_table(TableRows& rows, int32_t minimum, const double* probabilities, int64_t count) {
    append_frequencies(rows.frequencies, probabilities, count);
    rows.minimum.push_back(minimum);
    rows.first.push_back(static_cast<int64_t>(rows.frequencies.size()));
}

}  // namespace rans
}  // namespace flic
