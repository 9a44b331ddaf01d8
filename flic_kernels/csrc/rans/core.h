// The arithmetic of the rANS coder, one symbol at a time. Compiles for the host and for CUDA: every
// coder of the library goes through these functions or is tested against them.
#pragma once

#include <cstdint>

#include "include/flic_kernels.h"

#if defined(__CUDACC__)
#define FLIC_HD __host__ __device__ __forceinline__
#else
// Nothing is left to merge: code compiled for one instruction set must not stand for another's.
#define FLIC_HD inline __attribute__((always_inline))
#endif

namespace flic {
namespace rans {

constexpr int kPrecision = 15;
constexpr uint32_t kTotal = 1u << kPrecision;
constexpr int kWordBits = 16;
constexpr uint32_t kStateLow = 1u << 16;  // states live in [2^16, 2^32)
constexpr int kMaxLanes = 32;
constexpr int kMaxGroups = 32;
constexpr int kMaxEscapeBytes = 5;

// An interval of a table, packed: bits 0-14 start, bit 15 set for the escape, bits 16-31 frequency.
constexpr uint32_t kEscapeFlag = 1u << 15;

FLIC_HD uint32_t interval_start(uint32_t interval) { return interval & (kTotal - 1); }
FLIC_HD uint32_t interval_frequency(uint32_t interval) { return interval >> 16; }

// Whether a word must leave the state before a symbol of this frequency enters it.
FLIC_HD bool must_emit(uint32_t state, uint32_t frequency) {
    return (state >> (32 - kPrecision)) >= frequency;
}

FLIC_HD uint32_t put(uint32_t state, uint32_t interval) {
    const uint32_t frequency = interval_frequency(interval);
    const uint32_t quotient = state / frequency;
    return (quotient << kPrecision) + (state - quotient * frequency) + interval_start(interval);
}

FLIC_HD uint32_t get(uint32_t state, uint32_t start, uint32_t frequency) {
    return frequency * (state >> kPrecision) + (state & (kTotal - 1)) - start;
}

// One bucket of a table's lookup: the first two intervals that meet it. Bits 0-31: the first
// interval as above; bits 32-47: its symbol; bits 48-62: the second one's frequency, 0 for none;
// bit 63: whether the second is the escape.
FLIC_HD uint32_t bucket_interval(uint64_t bucket) { return static_cast<uint32_t>(bucket); }
FLIC_HD int32_t bucket_symbol(uint64_t bucket) { return static_cast<int16_t>(bucket >> 32); }
FLIC_HD uint32_t bucket_next(uint64_t bucket) {
    return static_cast<uint32_t>(bucket >> 48) & (kTotal - 1);
}

// What a decoder knows of a table: its buckets start at locator >> 4 and hold 2^(locator & 15)
// slots each.
FLIC_HD uint32_t bucket_index(uint32_t locator, uint32_t slot) {
    return (locator >> 4) + (slot >> (locator & 15));
}

// What an encoder knows of a table. Its symbols are minimum .. minimum + escape - 1; interval
// number `escape`, the last, is the escape.
using EncodeTable = FlicEncodeTable;

FLIC_HD uint32_t symbol_interval(const EncodeTable& table, int32_t symbol) {
    const uint32_t k = static_cast<uint32_t>(symbol) - static_cast<uint32_t>(table.minimum);
    return k < table.escape ? k : table.escape;
}

// Escaped symbols, folded to 0, 1, 2, ... outwards: above the range even, below it odd.
FLIC_HD uint64_t escape_code(const EncodeTable& table, int32_t symbol) {
    const int64_t low = table.minimum;
    const int64_t high = low + table.escape;
    const int64_t v = symbol;
    return static_cast<uint64_t>(v >= high ? 2 * (v - high) : 2 * (low - 1 - v) + 1);
}

// False where the code stands for no int32.
FLIC_HD bool escape_symbol(const EncodeTable& table, uint64_t code, int32_t* symbol) {
    const int64_t low = table.minimum;
    const int64_t half = static_cast<int64_t>(code >> 1);
    const int64_t v = code & 1 ? low - 1 - half : low + table.escape + half;
    *symbol = static_cast<int32_t>(v);
    return v == *symbol;
}

// Codes are written seven bits a byte, least significant first, the top bit of a byte set where
// more follow; the shortest form only.
FLIC_HD int code_bytes(uint64_t code) {
    int bytes = 1;
    while (code >>= 7) ++bytes;
    return bytes;
}

FLIC_HD void write_code(uint64_t code, uint8_t* out) {
    for (; code > 127; code >>= 7) *out++ = static_cast<uint8_t>(code | 128);
    *out = static_cast<uint8_t>(code);
}

// The bytes read, 0 where the code is malformed or passes the end.
FLIC_HD int read_code(const uint8_t* data, const uint8_t* end, uint64_t* code) {
    *code = 0;
    for (int i = 0; i < kMaxEscapeBytes && data + i < end; ++i) {
        *code |= static_cast<uint64_t>(data[i] & 127) << (7 * i);
        if (data[i] < 128) return data[i] == 0 && i > 0 ? 0 : i + 1;
    }
    return 0;
}

using TablesView = FlicTablesView;

// What decoding one slot of one table finds.
struct Found {
    uint32_t start, frequency;
    int32_t symbol;
    bool escape;
};

FLIC_HD Found find(const TablesView& tables, uint32_t table, uint32_t slot) {
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
