// Frequency tables as the coders want them.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "rans/core.h"

namespace flic {
namespace rans {

struct Tables {
    std::vector<EncodeTable> encode;  // [tables]
    std::vector<uint32_t> locators;   // [tables]
    std::vector<uint8_t> busy;        // [tables] 1 where no symbol has 3/4 of the probability
    std::vector<uint32_t> intervals;  // [all intervals]
    std::vector<uint64_t> buckets;

    TablesView view() const {
        return {encode.data(),    locators.data(), busy.data(),
                intervals.data(), buckets.data(),  static_cast<uint32_t>(encode.size())};
    }
};

// Tables as integers: table t has the frequencies[first[t] .. first[t + 1]), each at least 1,
// together 2^15, the last one the escape's; its first symbol is minimum[t]. Symbols lie in int16.
struct TableRows {
    std::vector<int64_t> first{0};
    std::vector<int32_t> minimum;
    std::vector<int32_t> frequencies;
};

// Throws Error(FLIC_BAD_TABLES).
std::unique_ptr<FlicTables> make_tables(const TableRows& rows);

}  // namespace rans
}  // namespace flic

struct FlicTables final : flic::rans::Tables {};
