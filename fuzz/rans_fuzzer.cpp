// libFuzzer target over the rANS coder. The first byte chooses: decode the rest as a stream, or
// encode it as symbols and decode the result. Every instruction set of the machine must do the
// same, and so must the GPU's code, on an emulated warp, where there is little to do (it is slow).
// The third byte's upper bits choose how wide symbols and indexes are stored, which must change
// nothing.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "rans/warp.h"

using Push = FlicPush;

namespace {

constexpr size_t kFewSymbols = 100;

void require(bool condition, const char* what) {
    if (condition) return;
    std::fprintf(stderr, "failed: %s\n", what);
    std::abort();
}

// One symbol, binary, skewed, flat, escapes only.
const FlicTables* tables() {
    static FlicTables* made = nullptr;
    if (!made) {
        const int32_t frequencies[] = {32767, 1, 16384, 16383, 1,    20000, 10000, 2000, 700,  60,
                                       5,     2, 1,     8192,  8192, 8192,  8191,  1,    32768};
        const int64_t first[] = {0, 2, 5, 13, 18, 19};
        const int32_t minimum[] = {0, -1, -3, 32700, 0};
        require(flic_rans_tables_new(5, first, minimum, frequencies, &made) == FLIC_OK, "tables");
    }
    return made;
}

struct Result {
    int status;
    std::vector<int32_t> symbols;
};

// Numbers in the `bytes` low bytes of each, little-endian.
struct Array {
    int bytes;
    size_t count;
    std::vector<uint8_t> data;

    Array(const int32_t* numbers, size_t count, int bytes)
        : bytes(bytes), count(count), data(count * static_cast<size_t>(bytes)) {
        for (size_t i = 0; i < count; ++i) {
            std::memcpy(data.data() + i * static_cast<size_t>(bytes), numbers + i,
                        static_cast<size_t>(bytes));
        }
    }
};

using Pulls = std::vector<Array>;  // table indexes

Result decode(const uint8_t* data, size_t size, const Pulls& pulls) {
    FlicDecoder* decoder = nullptr;
    Result result{flic_rans_decoder_new(data, static_cast<int64_t>(size), &decoder), {}};
    if (result.status != FLIC_OK) return result;
    for (const auto& indexes : pulls) {
        std::vector<int32_t> symbols(indexes.count);
        result.status =
            flic_rans_decoder_pull(decoder, indexes.data.data(), indexes.bytes,
                                   static_cast<int64_t>(indexes.count), tables(), symbols.data());
        if (result.status != FLIC_OK) break;
        result.symbols.insert(result.symbols.end(), symbols.begin(), symbols.end());
    }
    if (result.status == FLIC_OK) result.status = flic_rans_decoder_close(decoder);
    flic_rans_decoder_free(decoder);
    return result;
}

// The same by tests/native/warp_emulator.cpp.
Result decode_by_warps(const uint8_t* data, size_t size, const Pulls& pulls) {
    flic::rans::GroupRecord records[flic::rans::kMaxGroups];
    int groups = 0;
    Result result{flic_rans_records_open(data, static_cast<int64_t>(size), 0, 0, records, &groups),
                  {}};
    if (result.status != FLIC_OK) return result;
    flic::rans::TablesView view;
    int64_t bytes[5];
    flic_rans_tables_arrays(tables(), &view, bytes);
    for (const auto& indexes : pulls) {
        std::vector<int32_t> symbols(indexes.count);
        const flic::rans::WarpPush push{
            nullptr, indexes.data.data(), static_cast<int64_t>(indexes.count), view,
            0,       indexes.bytes};
        flic_rans_cuda_decode(records, groups, &push, data, symbols.data(), nullptr);
        result.symbols.insert(result.symbols.end(), symbols.begin(), symbols.end());
    }
    flic_rans_cuda_close(records, groups, nullptr);
    for (int g = 0; g < groups; ++g) {
        if (result.status == FLIC_OK) result.status = records[g].status;
    }
    return result;
}

void require_same(const Result& found, const Result& expected) {
    require((found.status == FLIC_OK) == (expected.status == FLIC_OK), "same success");
    require(found.status != FLIC_OK || found.symbols == expected.symbols, "same symbols");
}

std::vector<uint8_t> encode(const std::vector<Push>& pushes, int lanes, int groups) {
    FlicBytes* bytes = nullptr;
    const int status =
        flic_rans_encode(pushes.data(), static_cast<int64_t>(pushes.size()), lanes, groups, &bytes);
    require(status == FLIC_OK, "encoding valid input");
    const uint8_t* data = flic_rans_bytes_data(bytes);
    std::vector<uint8_t> stream(data, data + flic_rans_bytes_size(bytes));
    flic_rans_bytes_free(bytes);
    return stream;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size < 6) return 0;
    const int best = flic_isa_best();
    uint32_t state = data[1];
    const int symbol_bytes = data[2] & 8 ? 4 : data[2] & 4 ? 2 : 1;
    const int index_bytes = data[2] & 16 ? 2 : 4;
    Pulls wide, pulls;
    for (int p = 0; p < data[2] % 4; ++p) {
        std::vector<int32_t> indexes(static_cast<size_t>(data[3 + p % 2]) * (1 + data[1] % 5));
        for (int32_t& index : indexes) {
            state = state * 1664525 + 1013904223;
            index = static_cast<int32_t>(state >> 24) % 5;
        }
        wide.emplace_back(indexes.data(), indexes.size(), 4);
        pulls.emplace_back(indexes.data(), indexes.size(), index_bytes);
    }
    const uint8_t* rest = data + 5;
    const size_t left = size - 5;
    size_t total = 0;
    for (const Array& indexes : pulls) total += indexes.count;
    if (data[0] & 1) {  // a stream
        flic_set_isa(0);
        const Result expected = decode(rest, left, wide);
        for (int level = 0; level <= best; ++level) {
            flic_set_isa(level);
            require_same(decode(rest, left, pulls), expected);
        }
        if (total <= kFewSymbols) require_same(decode_by_warps(rest, left, pulls), expected);
        return 0;
    }
    std::vector<int32_t> symbols;
    for (size_t i = 0; i < total; ++i) {
        const uint8_t byte = rest[i % left];
        state = state * 1664525 + 1013904223;
        const int32_t symbol = byte == 255 ? static_cast<int32_t>(state) : byte / 32 - 3;
        symbols.push_back(symbol_bytes == 1   ? static_cast<int8_t>(symbol)
                          : symbol_bytes == 2 ? static_cast<int16_t>(symbol)
                                              : symbol);
    }
    const Array narrow(symbols.data(), total, symbol_bytes);
    std::vector<Push> wide_pushes, pushes;
    size_t at = 0;
    for (size_t p = 0; p < pulls.size(); ++p) {
        const auto count = static_cast<int64_t>(pulls[p].count);
        wide_pushes.push_back({symbols.data() + at, wide[p].data.data(), count, tables(), 4, 4});
        pushes.push_back({narrow.data.data() + at * static_cast<size_t>(symbol_bytes),
                          pulls[p].data.data(), count, tables(), symbol_bytes, index_bytes});
        at += pulls[p].count;
    }
    const int lanes = data[0] & 2 ? 1 << data[0] / 4 % 6 : 0;
    const int groups = data[0] & 128 ? 4 : 0;
    flic_set_isa(0);
    const std::vector<uint8_t> expected = encode(wide_pushes, lanes, groups);
    for (int level = 0; level <= best; ++level) {
        flic_set_isa(level);
        require(encode(pushes, lanes, groups) == expected, "same stream");
        const Result found = decode(expected.data(), expected.size(), pulls);
        require(found.status == FLIC_OK && found.symbols == symbols, "round trip");
    }
    return 0;
}
