// Encoding on a GPU: one warp codes one group's pushes, the last symbol first. See warp.h.
#pragma once

#include "rans/warp.h"

namespace flic {
namespace rans {

template <class W>
struct WarpEncoder {
    uint8_t* buffer;
    int64_t words, escapes;
    int64_t tail_symbols;
    int lanes;
    uint32_t my_state;

    // Writes the escapes of the threads in `escaped`, the highest first.
    FLIC_HD void push_escapes(uint32_t escaped, const EncodeTable& my_table, int32_t my_symbol) {
        const int lane = W::lane();
        const bool mine = escaped >> lane & 1;
        const uint64_t my_code = mine ? escape_code(my_table, my_symbol) : 0;
        const uint32_t my_bytes = static_cast<uint32_t>(code_bytes(my_code));
        while (escaped) {
            const int source = highest_bit(escaped);
            escaped &= ~(uint32_t{1} << source);
            escapes -= W::shuffle(my_bytes, source);
            if (lane == source) write_code(my_code, buffer + escapes);
        }
    }

    FLIC_HD void store_word(int64_t at, uint32_t word) {
        buffer[at] = static_cast<uint8_t>(word);
        buffer[at + 1] = static_cast<uint8_t>(word >> 8);
    }

    // One state codes the last busy symbols; its words become the lanes' first states. Returns
    // where it stopped; a bad index is found later, by the lanes.
    FLIC_HD int64_t tail(const WarpPush& push, int64_t offset, int64_t count) {
        const int lane = W::lane();
        const TablesView& tables = push.tables;
        const int64_t reach = count > kTailReach ? count - kTailReach : 0;
        uint32_t state = kStateLow;
        uint32_t my_word = 0;  // thread i holds the word that left as number i
        int left = 0;
        int64_t skip = count;
        bool full = false;
        int64_t base = (count + kWarp - 1) / kWarp * kWarp - kWarp;
        for (; base + kWarp > reach && base >= 0 && !full; base -= kWarp) {
            const int64_t j = base + lane;
            const bool here = j >= reach && j < count;
            const uint32_t my_index = here ? load_index(push, offset + j) : tables.count;
            const bool my_busy = my_index < tables.count && tables.busy[my_index];
            EncodeTable my_table{};
            int32_t my_symbol = 0;
            uint32_t my_interval = 0;
            if (my_busy) {
                my_table = tables.encode[my_index];
                my_symbol = load_symbol(push, offset + j);
                my_interval =
                    tables.intervals[my_table.first + symbol_interval(my_table, my_symbol)];
            }
            uint32_t busy = W::ballot(my_busy);
            while (busy && !full) {
                const int source = highest_bit(busy);
                busy &= ~(uint32_t{1} << source);
                const uint32_t interval = W::shuffle(my_interval, source);
                const bool emitting = must_emit(state, interval_frequency(interval));
                full = emitting && left == lanes - 2;
                if (full) break;
                if (emitting) {
                    if (lane == left) my_word = state & 0xffff;
                    ++left;
                    state >>= kWordBits;
                }
                if (interval & kEscapeFlag) {
                    push_escapes(uint32_t{1} << source, my_table, my_symbol);
                }
                state = put(state, interval);
                skip = base + source;
                ++tail_symbols;
            }
        }
        // Lanes 0 and 1 hold the state, the others the words, the last one to leave first.
        const int from = left + 1 - lane;
        const uint32_t word = W::shuffle(my_word, from >= 0 ? from : 0);
        const uint32_t seed = lane == 0   ? state & 0xffff
                              : lane == 1 ? state >> kWordBits
                              : from >= 0 ? word
                                          : 0;
        if (lane < lanes) my_state |= seed;
        return skip;
    }

    FLIC_HD int span(const WarpPush& push, int64_t offset, int64_t count, int64_t skip) {
        const int lane = W::lane();
        const TablesView& tables = push.tables;
        for (int64_t base = (count + lanes - 1) / lanes * lanes - lanes; base >= 0; base -= lanes) {
            const int64_t j = base + lane;
            const bool here = lane < lanes && j < count;
            const uint32_t my_index = here ? load_index(push, offset + j) : 0;
            if (W::ballot(here && my_index == tables.count)) return FLIC_BAD_INDEX;
            const bool active = here && !(j >= skip && tables.busy[my_index]);
            EncodeTable my_table{};
            int32_t my_symbol = 0;
            uint32_t my_interval = 0;
            if (active) {
                my_table = tables.encode[my_index];
                my_symbol = load_symbol(push, offset + j);
                my_interval =
                    tables.intervals[my_table.first + symbol_interval(my_table, my_symbol)];
            }
            const uint32_t escaped = W::ballot((my_interval & kEscapeFlag) != 0);
            if (escaped) push_escapes(escaped, my_table, my_symbol);
            const bool my_emit = active && must_emit(my_state, interval_frequency(my_interval));
            const uint32_t emitting = W::ballot(my_emit);
            words -= 2 * count_bits(emitting);
            if (my_emit) {
                store_word(words + 2 * count_bits(emitting & bits_below(lane)), my_state);
                my_state >>= kWordBits;
            }
            if (active) my_state = put(my_state, my_interval);
        }
        return FLIC_OK;
    }

    FLIC_HD int all(const GroupRecord& record, const WarpPush* pushes, int push_count) {
        for (int p = push_count; p-- > 0;) {
            const Part part = group_part(pushes[p].count, record.group, record.groups);
            const int64_t offset = record.picture * pushes[p].count + part.begin;
            const int64_t count = part.end - part.begin;
            int64_t skip = count;
            if (p + 1 == push_count && lanes > 1) skip = tail(pushes[p], offset, count);
            const int status = span(pushes[p], offset, count, skip);
            if (status != FLIC_OK) return status;
        }
        return FLIC_OK;
    }
};

// Codes a record's part of all pushes. words_end and escapes_end tell where in the buffer words and
// escapes end, with room below for the worst case. choose: lower the number of lanes, from 32, to
// what the payload deserves, as the CPU coder does.
template <class W>
FLIC_HD void warp_encode(GroupRecord& record, const WarpPush* pushes, int push_count,
                         uint8_t* buffer, bool choose) {
    const int lane = W::lane();
    int lanes = record.lanes;
    WarpEncoder<W> encoder{};
    int status = FLIC_OK;
    for (;;) {
        encoder = {buffer, record.words_end, record.escapes_end, 0, lanes, kStateLow};
        status = encoder.all(record, pushes, push_count);
        const int64_t payload =
            record.words_end - encoder.words + record.escapes_end - encoder.escapes;
        if (status != FLIC_OK || !choose) break;
        choose = false;
        const int before = lanes;
        while (lanes > 1 && payload < kPayloadPerLane * lanes) lanes /= 2;
        if (lanes == before) break;
    }
    W::sync();  // every thread has read the record before it changes
    record.states[lane] = encoder.my_state;
    if (lane == 0) {
        record.words = encoder.words;
        record.escapes = encoder.escapes;
        record.tail_symbols = encoder.tail_symbols;
        record.lanes = lanes;
        record.status = status;
    }
}

}  // namespace rans
}  // namespace flic
