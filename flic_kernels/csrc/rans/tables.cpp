#include "rans/tables.h"

#include <algorithm>

#include "base/errors.h"
#include "include/flic_kernels.h"

namespace flic {
namespace rans {
namespace {

// Buckets are halved until at most this share of a table's slots needs a search, kTotal / 64.
constexpr uint32_t kSearchedSlots = kTotal >> 6;
constexpr int kMinBucketShift = 6;

struct Interval {
    uint32_t start, frequency;
};

// Slots that lie beyond the second interval of their bucket.
uint32_t searched_slots(const std::vector<Interval>& table, int shift) {
    uint32_t slots = 0;
    for (size_t k = 0; k < table.size(); ++k) {
        const uint32_t begin = table[k].start;
        const uint32_t end = begin + table[k].frequency;
        const uint32_t bucket_end = std::min(((begin >> shift) + 1) << shift, end);
        if (k >= 2 && (begin & ((1u << shift) - 1)) != 0) {
            const bool third = table[k - 1].start > (begin >> shift) << shift;
            if (third) slots += bucket_end - begin;
        }
    }
    return slots;
}

uint64_t make_bucket(const std::vector<Interval>& table, size_t k, int32_t minimum) {
    const bool last = k + 1 == table.size();
    const uint32_t flag = last ? kEscapeFlag : 0;
    uint64_t bucket = table[k].start | flag | table[k].frequency << 16;
    bucket |= static_cast<uint64_t>(static_cast<uint16_t>(minimum + static_cast<int32_t>(k))) << 32;
    if (!last) {
        bucket |= static_cast<uint64_t>(table[k + 1].frequency) << 48;
        bucket |= static_cast<uint64_t>(k + 2 == table.size()) << 63;
    }
    return bucket;
}

void append(Tables& all, const std::vector<Interval>& table, int32_t minimum) {
    EncodeTable encode;
    encode.first = static_cast<uint32_t>(all.intervals.size());
    encode.minimum = static_cast<int16_t>(minimum);
    encode.escape = static_cast<uint16_t>(table.size() - 1);
    all.encode.push_back(encode);

    uint32_t largest = 0;
    for (size_t k = 0; k < table.size(); ++k) {
        const uint32_t flag = k + 1 == table.size() ? kEscapeFlag : 0;
        all.intervals.push_back(table[k].start | flag | table[k].frequency << 16);
        largest = std::max(largest, table[k].frequency);
    }
    all.busy.push_back(largest < kTotal / 4 * 3);

    int shift = kPrecision;
    while (shift > kMinBucketShift && searched_slots(table, shift) > kSearchedSlots) --shift;
    all.locators.push_back(static_cast<uint32_t>(all.buckets.size()) << 4 |
                           static_cast<uint32_t>(shift));
    size_t k = 0;
    for (uint32_t slot = 0; slot < kTotal; slot += 1u << shift) {
        while (slot - table[k].start >= table[k].frequency) ++k;
        all.buckets.push_back(make_bucket(table, k, minimum));
    }
}

void require_tables(bool condition) {
    if (!condition) throw Error(FLIC_BAD_TABLES, "frequencies that do not form tables");
}

std::unique_ptr<FlicTables> build(int64_t count, const int64_t* first, const int32_t* minimum,
                                  const int32_t* frequencies) {
    auto all = std::make_unique<FlicTables>();
    std::vector<Interval> table;
    for (int64_t t = 0; t < count; ++t) {
        const int64_t size = first[t + 1] - first[t];
        require_tables(size >= 1 && size <= kTotal);
        require_tables(minimum[t] >= INT16_MIN && minimum[t] + size - 1 <= INT16_MAX);
        table.clear();
        uint32_t start = 0;
        for (int64_t k = first[t]; k < first[t + 1]; ++k) {
            const int32_t frequency = frequencies[k];
            require_tables(frequency >= 1 && static_cast<uint32_t>(frequency) <= kTotal - start);
            table.push_back({start, static_cast<uint32_t>(frequency)});
            start += static_cast<uint32_t>(frequency);
        }
        require_tables(start == kTotal);
        append(*all, table, minimum[t]);
        require_tables(all->buckets.size() >> 28 == 0);
    }
    return all;
}

}  // namespace

std::unique_ptr<FlicTables> make_tables(const TableRows& rows) {
    const auto count = static_cast<int64_t>(rows.minimum.size());
    return build(count, rows.first.data(), rows.minimum.data(), rows.frequencies.data());
}

}  // namespace rans
}  // namespace flic

// Makes tables from the integers of a TableRows.
FLIC_API int flic_rans_tables_new(int64_t count, const int64_t* first, const int32_t* minimum,
                                  const int32_t* frequencies, FlicTables** out) {
    return flic::LastError().guard([&] {
        flic::require(count >= 1 && count <= 1 << 20 && first && minimum && frequencies && out,
                      "bad argument");
        *out = flic::rans::build(count, first, minimum, frequencies).release();
    });
}

// Bytes an encoder (its table records and intervals) and a decoder (locators and buckets) read.
FLIC_API int flic_rans_tables_bytes(const FlicTables* tables, int64_t* encoder, int64_t* decoder) {
    if (!tables || !encoder || !decoder) return FLIC_BAD_ARGUMENT;
    *encoder = static_cast<int64_t>(tables->encode.size() * sizeof(flic::rans::EncodeTable) +
                                    tables->intervals.size() * sizeof(uint32_t));
    *decoder = static_cast<int64_t>(tables->locators.size() * sizeof(uint32_t) +
                                    tables->buckets.size() * sizeof(uint64_t));
    return FLIC_OK;
}

// Where the arrays lie and how many bytes each has, for copying them to a device.
FLIC_API int flic_rans_tables_arrays(const FlicTables* tables, FlicTablesView* view,
                                     int64_t* bytes) {
    if (!tables || !view || !bytes) return FLIC_BAD_ARGUMENT;
    const auto size = [](const auto& array) {
        return static_cast<int64_t>(array.size() * sizeof(array[0]));
    };
    *view = tables->view();
    bytes[0] = size(tables->encode);
    bytes[1] = size(tables->locators);
    bytes[2] = size(tables->busy);
    bytes[3] = size(tables->intervals);
    bytes[4] = size(tables->buckets);
    return FLIC_OK;
}

FLIC_API void flic_rans_tables_free(FlicTables* tables) { delete tables; }
