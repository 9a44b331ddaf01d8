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

}  // namespace rans
}  // namespace flic

struct FlicTables final : flic::rans::Tables {};
