// Coding one symbol of a span: the scalar loops, the tail, and what vectors leave over.
#pragma once

#include <cstring>

#include "include/flic_kernels.h"
#include "rans/lane_coder.h"

namespace flic {
namespace rans {
namespace {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "words are read as they lie in memory");

inline uint32_t load_word(const uint8_t* from) {
    uint16_t word;
    std::memcpy(&word, from, sizeof word);
    return word;
}

inline void store_word(uint8_t* to, uint32_t word) {
    const uint16_t low = static_cast<uint16_t>(word);
    std::memcpy(to, &low, sizeof low);
}

template <class Index>
inline bool index_is_valid(Index index, const TablesView& tables) {
    return static_cast<uint32_t>(index) < tables.count;
}

inline void push_escape(uint8_t*& escapes, const EncodeTable& table, int32_t symbol) {
    const uint64_t code = escape_code(table, symbol);
    escapes -= code_bytes(code);
    write_code(code, escapes);
}

inline bool pull_escape(const uint8_t*& escapes, const uint8_t* end, const EncodeTable& table,
                        int32_t* symbol) {
    uint64_t code;
    const int bytes = read_code(escapes, end, &code);
    escapes += bytes;
    return bytes > 0 && escape_symbol(table, code, symbol);
}

template <class Symbol, class Index>
inline int encode_at(EncodeLanes& lanes, const Span& span, int64_t j) {
    const TablesView& tables = span.tables;
    const Index index = static_cast<const Index*>(span.indexes)[j];
    if (!index_is_valid(index, tables)) return FLIC_BAD_INDEX;
    if (j >= span.skip && tables.busy[index]) return FLIC_OK;
    const EncodeTable table = tables.encode[index];
    const int32_t symbol = static_cast<const Symbol*>(span.symbols)[j];
    const uint32_t k = symbol_interval(table, symbol);
    if (k == table.escape) push_escape(lanes.escapes, table, symbol);
    const uint32_t interval = tables.intervals[table.first + k];
    uint32_t& state = lanes.states[j & (lanes.lanes - 1)];
    if (must_emit(state, interval_frequency(interval))) {
        lanes.words -= 2;
        store_word(lanes.words, state);
        state >>= kWordBits;
    }
    state = put(state, interval);
    return FLIC_OK;
}

template <class Index>
inline int decode_at(DecodeLanes& lanes, const Span& span, int64_t j) {
    const TablesView& tables = span.tables;
    const Index index = static_cast<const Index*>(span.indexes)[j];
    if (!index_is_valid(index, tables)) return FLIC_BAD_INDEX;
    if (j >= span.skip && tables.busy[index]) return FLIC_OK;
    uint32_t& state = lanes.states[j & (lanes.lanes - 1)];
    const Found found = find(tables, index, state & (kTotal - 1));
    state = get(state, found.start, found.frequency);
    int32_t symbol = found.symbol;
    if (found.escape &&
        !pull_escape(lanes.escapes, lanes.escapes_end, tables.encode[index], &symbol)) {
        return FLIC_CORRUPT_ESCAPE;
    }
    span.out[j] = symbol;
    if (state < kStateLow) {
        if (lanes.words == lanes.words_end) return FLIC_CORRUPT_WORDS;
        state = state << kWordBits | load_word(lanes.words);
        lanes.words += 2;
    }
    return FLIC_OK;
}

// Calls use(Symbol{}, Index{}) with the element types of a span's arrays.
template <class Use>
inline int with_types(const Span& span, Use use) {
    const bool wide = span.index_bytes == 4;
    switch (span.symbol_bytes) {
        case 1: return wide ? use(int8_t{}, int32_t{}) : use(int8_t{}, uint16_t{});
        case 2: return wide ? use(int16_t{}, int32_t{}) : use(int16_t{}, uint16_t{});
        case 4: return wide ? use(int32_t{}, int32_t{}) : use(int32_t{}, uint16_t{});
        default: return FLIC_BAD_ARGUMENT;
    }
}

}  // namespace
}  // namespace rans
}  // namespace flic
