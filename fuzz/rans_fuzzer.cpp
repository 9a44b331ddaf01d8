// libFuzzer target over the rANS coder. The first byte chooses: decode the rest as a stream, or
// encode it as symbols and decode the result. Every instruction set of the machine must do the same,
// and so must the GPU's code, on an emulated warp, where there is little to do (it is slow).

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "rans/warp.h"

struct Tables;
struct Decoder;
struct Bytes;

struct Push {
    const void* symbols;
    const void* indexes;
    int64_t count;
    const Tables* tables;
    int32_t symbol_bytes;
    int32_t index_bytes;
};

extern "C" {
int flic_isa_best();
int flic_set_isa(int level);
int flic_rans_tables_new(int64_t, const int64_t*, const int32_t*, const int32_t*, Tables**);
int flic_rans_encode(const Push*, int64_t, int, int, Bytes**);
int64_t flic_rans_bytes_size(const Bytes*);
const uint8_t* flic_rans_bytes_data(const Bytes*);
void flic_rans_bytes_free(Bytes*);
int flic_rans_decoder_new(const uint8_t*, int64_t, Decoder**);
int flic_rans_decoder_pull(Decoder*, const void*, int, int64_t, const Tables*, int32_t*);
int flic_rans_decoder_close(const Decoder*);
void flic_rans_decoder_free(Decoder*);
int flic_rans_tables_arrays(const Tables*, flic::rans::TablesView*, int64_t*);
int flic_rans_records_open(const uint8_t*, int64_t, int, int64_t, flic::rans::GroupRecord*, int*);
int flic_rans_cuda_decode(flic::rans::GroupRecord*, int64_t, const flic::rans::WarpPush*,
                          const uint8_t*, int32_t*, void*);
int flic_rans_cuda_close(flic::rans::GroupRecord*, int64_t, void*);
}

namespace {

constexpr size_t kFewSymbols = 100;

void require(bool condition, const char* what) {
    if (condition) return;
    std::fprintf(stderr, "failed: %s\n", what);
    std::abort();
}

// One symbol, binary, skewed, flat, escapes only.
const Tables* tables() {
    static Tables* made = nullptr;
    if (!made) {
        const int32_t frequencies[] = {32767, 1,    16384, 16383, 1,    20000, 10000, 2000, 700,
                                       60,    5,    2,     1,     8192, 8192,  8192,  8191, 1,
                                       32768};
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

Result decode(const uint8_t* data, size_t size, const std::vector<std::vector<int32_t>>& pulls) {
    Decoder* decoder = nullptr;
    Result result{flic_rans_decoder_new(data, static_cast<int64_t>(size), &decoder), {}};
    if (result.status != FLIC_OK) return result;
    for (const auto& indexes : pulls) {
        std::vector<int32_t> symbols(indexes.size());
        result.status =
            flic_rans_decoder_pull(decoder, indexes.data(), 4, static_cast<int64_t>(indexes.size()),
                                   tables(), symbols.data());
        if (result.status != FLIC_OK) break;
        result.symbols.insert(result.symbols.end(), symbols.begin(), symbols.end());
    }
    if (result.status == FLIC_OK) result.status = flic_rans_decoder_close(decoder);
    flic_rans_decoder_free(decoder);
    return result;
}

// The same by tests/native/warp_emulator.cpp.
Result decode_by_warps(const uint8_t* data, size_t size,
                       const std::vector<std::vector<int32_t>>& pulls) {
    flic::rans::GroupRecord records[flic::rans::kMaxGroups];
    int groups = 0;
    Result result{
        flic_rans_records_open(data, static_cast<int64_t>(size), 0, 0, records, &groups), {}};
    if (result.status != FLIC_OK) return result;
    flic::rans::TablesView view;
    int64_t bytes[5];
    flic_rans_tables_arrays(tables(), &view, bytes);
    for (const auto& indexes : pulls) {
        std::vector<int32_t> symbols(indexes.size());
        const flic::rans::WarpPush push{
            nullptr, indexes.data(), static_cast<int64_t>(indexes.size()), view, 0, 4};
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
    Bytes* bytes = nullptr;
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
    std::vector<std::vector<int32_t>> pulls(data[2] % 4);
    for (size_t p = 0; p < pulls.size(); ++p) {
        pulls[p].resize(static_cast<size_t>(data[3 + p % 2]) * (1 + data[1] % 5));
        for (int32_t& index : pulls[p]) {
            state = state * 1664525 + 1013904223;
            index = static_cast<int32_t>(state >> 24) % 5;
        }
    }
    const uint8_t* rest = data + 5;
    const size_t left = size - 5;
    size_t total = 0;
    for (const auto& indexes : pulls) total += indexes.size();
    if (data[0] & 1) {  // a stream
        flic_set_isa(0);
        const Result expected = decode(rest, left, pulls);
        for (int level = 1; level <= best; ++level) {
            flic_set_isa(level);
            require_same(decode(rest, left, pulls), expected);
        }
        if (total <= kFewSymbols) require_same(decode_by_warps(rest, left, pulls), expected);
        return 0;
    }
    std::vector<int32_t> symbols;
    std::vector<Push> pushes;
    for (size_t i = 0; i < total; ++i) {
        const uint8_t byte = rest[i % left];
        state = state * 1664525 + 1013904223;
        symbols.push_back(byte == 255 ? static_cast<int32_t>(state) : byte / 32 - 3);
    }
    size_t at = 0;
    for (const auto& indexes : pulls) {
        pushes.push_back({symbols.data() + at, indexes.data(),
                          static_cast<int64_t>(indexes.size()), tables(), 4, 4});
        at += indexes.size();
    }
    const int lanes = data[0] & 2 ? 1 << data[0] / 4 % 6 : 0;
    const int groups = data[0] & 128 ? 4 : 0;
    flic_set_isa(0);
    const std::vector<uint8_t> expected = encode(pushes, lanes, groups);
    for (int level = 0; level <= best; ++level) {
        flic_set_isa(level);
        require(encode(pushes, lanes, groups) == expected, "same stream");
        const Result found = decode(expected.data(), expected.size(), pulls);
        require(found.status == FLIC_OK && found.symbols == symbols, "round trip");
    }
    return 0;
}
