#include "rans/gaussian_tables.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "rans/quantise.h"

namespace flic {
namespace rans {
namespace {

// Scale levels: eight an octave from 2^-7 to 2^8, and one for all that is above.
constexpr int kFirstOctave = -7, kEndOctave = 8;
constexpr int kSteps = 8;
// A fraction cell is at most this part of the smallest scale of its octave.
constexpr double kCellsPerScale = 8;
// Below this octave a table depends on one number: the distance to the nearest half, in scales.
constexpr int kBinaryOctave = -3;
constexpr double kBinaryStep = 1.0 / 16;
constexpr double kReach = 6;  // what is farther away, in scales, counts as so far
// A symbol is in a table where its probability is at least this many slots; else it is escaped.
constexpr double kLeastSlots = 0.2;

// exp(-a) for 0 <= a <= 18: Taylor's series of exp(-a / 2^10), squared ten times.
inline double exp_negative(double a) {
    const double x = a / 1024;
    double total = 1;
    for (int n = 12; n > 0; --n) total = 1 - total * x / n;
    for (int i = 0; i < 10; ++i) total = total * total;
    return total;
}

// The normal distribution function less a half, in place: the series of odd double factorials, with
// arguments clipped to +-6. Blocks: a series is a chain of divisions, and many at once go faster.
void centred_cdf(std::vector<double>& values) {
    constexpr size_t kBlock = 64;
    for (size_t begin = 0; begin < values.size(); begin += kBlock) {
        const size_t count = std::min(kBlock, values.size() - begin);
        double* const t = values.data() + begin;
        double square[kBlock], series[kBlock];
        for (size_t i = 0; i < count; ++i) {
            t[i] = std::min(std::max(t[i], -kReach), kReach);
            square[i] = t[i] * t[i];
            series[i] = 1;
        }
        for (int n = 241; n > 1; n -= 2) {
            for (size_t i = 0; i < count; ++i) series[i] = series[i] * square[i] / n + 1;
        }
        for (size_t i = 0; i < count; ++i) {
            t[i] = t[i] * series[i] * exp_negative(square[i] / 2) * 0.3989422804014327;
        }
    }
}

// Small scales, table 2 * steps + side: 0, or what begins `steps` binary steps away, -1 for side 0
// and 1 for side 1.
void append_binary_tables(TableRows& rows) {
    std::vector<double> there;
    for (int i = 0; i <= static_cast<int>(kReach / kBinaryStep); ++i) {
        there.push_back(-(i * kBinaryStep));
    }
    centred_cdf(there);
    for (const double centred : there) {
        const double beyond = 0.5 + centred;
        const double pair[] = {beyond, 1 - beyond, beyond};
        const double certain = 1;
        for (const int side : {0, 1}) {
            if (beyond * kTotal < kLeastSlots) {
                append_table(rows, 0, &certain, 1);
            } else {
                append_table(rows, side - 1, pair + side, 2);
            }
        }
    }
}

// round(fraction + scale * normal), a table for each of the fractions, which lie symmetrically.
void append_wide_tables(TableRows& rows, const std::vector<double>& fractions, double scale) {
    const int reach = static_cast<int>(kReach * scale) + 2;
    const size_t edges = 2 * static_cast<size_t>(reach) + 2;
    std::vector<double> cdf;  // its arguments first
    for (const double fraction : fractions) {
        for (int k = -reach; k <= reach + 1; ++k) cdf.push_back((k - 0.5 - fraction) / scale);
    }
    // An odd function, and the second half of the arguments mirrors the first.
    std::vector<double> half(cdf.begin(), cdf.begin() + cdf.size() / 2);
    centred_cdf(half);
    for (size_t i = 0; i < half.size(); ++i) {
        cdf[i] = 0.5 + half[i];
        cdf[cdf.size() - 1 - i] = 0.5 - half[i];
    }
    std::vector<double> probabilities(edges - 1);
    const auto kept = [](double p) { return p * kTotal >= kLeastSlots; };
    for (size_t begin = 0; begin < cdf.size(); begin += edges) {
        for (size_t k = 0; k + 1 < edges; ++k) {
            probabilities[k] = cdf[begin + k + 1] - cdf[begin + k];
        }
        const auto first = std::find_if(probabilities.begin(), probabilities.end(), kept);
        const auto end = std::find_if(probabilities.rbegin(), probabilities.rend(), kept).base();
        append_table(rows, static_cast<int32_t>(first - probabilities.begin()) - reach, &*first,
                     end - first);
    }
}

// The table among append_binary_tables' that a fraction at a small scale has.
int64_t binary_table(double fraction, double scale) {
    const double distance = std::min((0.5 - std::fabs(fraction)) / scale, kReach);
    return 2 * static_cast<int64_t>(distance / kBinaryStep + 0.5) + (fraction > 0);
}

// The chosen rows of `all`, a cell each: equal ones once, numbered by the first cell that has them.
void merge(const TableRows& all, const std::vector<int64_t>& chosen, GaussianTables& made) {
    std::map<std::pair<int32_t, std::vector<int32_t>>, uint16_t> known;
    std::vector<int> numbers(all.minimum.size(), -1);
    for (const int64_t row : chosen) {
        if (numbers[row] < 0) {
            const int32_t minimum = all.minimum[row];
            const auto begin = all.frequencies.begin() + all.first[row];
            const auto end = all.frequencies.begin() + all.first[row + 1];
            const auto next = static_cast<uint16_t>(known.size());
            const auto [found, is_new] = known.try_emplace({minimum, {begin, end}}, next);
            numbers[row] = found->second;
            if (is_new) {
                TableRows& kept = made.rows;
                kept.minimum.push_back(minimum);
                kept.frequencies.insert(kept.frequencies.end(), begin, end);
                kept.first.push_back(static_cast<int64_t>(kept.frequencies.size()));
            }
        }
        made.cells.push_back(static_cast<uint16_t>(numbers[row]));
    }
}

}  // namespace

GaussianTables gaussian_tables() {
    GaussianTables made;
    TableRows all;
    std::vector<int64_t> chosen;  // each level's rows of `all`, a cell each
    const auto begin_level = [&](int size) {
        made.row_first.push_back(static_cast<int32_t>(chosen.size()));
        made.row_size.push_back(size);
    };
    append_binary_tables(all);
    for (int octave = kFirstOctave; octave < kEndOctave; ++octave) {
        const double base = std::ldexp(1.0, octave);
        const int size = std::max(1, static_cast<int>(kCellsPerScale / base));
        std::vector<double> fractions;
        for (int cell = 0; cell < size; ++cell) fractions.push_back((cell + 0.5) / size - 0.5);
        for (int step = 0; step < kSteps; ++step) {
            const double scale = base * (1 + (step + 0.5) / kSteps);
            begin_level(size);
            if (octave < kBinaryOctave) {
                for (const double f : fractions) chosen.push_back(binary_table(f, scale));
            } else {
                auto next = static_cast<int64_t>(all.minimum.size());
                append_wide_tables(all, fractions, scale);
                while (next < static_cast<int64_t>(all.minimum.size())) chosen.push_back(next++);
            }
        }
    }
    // Above the grid everything is escaped: a code of so many bytes is as good as a flat table.
    begin_level(1);
    chosen.push_back(static_cast<int64_t>(all.minimum.size()));
    append_table(all, 0, nullptr, 0);
    merge(all, chosen, made);
    return made;
}

}  // namespace rans
}  // namespace flic
