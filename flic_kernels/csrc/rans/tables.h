// Frequency tables as the coders want them.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core.h"

namespace flic {
namespace rans {

struct Tables {
    std::vector<EncodeTable> encode;   // [tables]
    std::vector<uint32_t> locators;    // [tables]
    std::vector<uint8_t> busy;         // [tables] 1 where no symbol has 3/4 of the probability
    std::vector<uint32_t> intervals;   // [all intervals], then padding
    std::vector<uint64_t> buckets;

    uint32_t count() const { return static_cast<uint32_t>(encode.size()); }
};

// What decoding one slot of one table finds.
struct Found {
    uint32_t start, frequency;
    int32_t symbol;
    bool escape;
};

inline Found find(const Tables& tables, uint32_t table, uint32_t slot) {
    const uint64_t bucket = tables.buckets[bucket_index(tables.locators[table], slot)];
    uint32_t interval = bucket_interval(bucket);
    int32_t symbol = bucket_symbol(bucket);
    uint32_t start = interval_start(interval);
    uint32_t frequency = interval_frequency(interval);
    if (slot - start < frequency) return {start, frequency, symbol, (interval & kEscapeFlag) != 0};
    const EncodeTable& encode = tables.encode[table];
    uint32_t k = static_cast<uint32_t>(symbol - encode.minimum);
    do {
        interval = tables.intervals[encode.first + ++k];
        start = interval_start(interval);
        frequency = interval_frequency(interval);
    } while (slot - start >= frequency);
    return {start, frequency, encode.minimum + static_cast<int32_t>(k),
            (interval & kEscapeFlag) != 0};
}

}  // namespace rans
}  // namespace flic
