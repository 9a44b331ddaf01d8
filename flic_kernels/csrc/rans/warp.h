// The coder for a GPU: one warp codes one group, thread = lane. The functions are templates over
// the warp's operations, so that the tests can run the same code on a CPU:
//   W::lane()                 0 .. 31
//   W::ballot(condition)      a bit for each thread
//   W::shuffle(value, from)   the value that thread `from` holds
//   W::sync()                 what a thread did to memory before is done for the others after
// All threads call them together. What is named without "my" is equal in all threads.
#pragma once

#include "rans/gaussian.h"
#include "rans/stream.h"

namespace flic {
namespace rans {

constexpr int kWarp = 32;

using WarpPush = FlicWarpPush;

FLIC_HD int count_bits(uint32_t bits) {
#if defined(__CUDA_ARCH__)
    return __popc(bits);
#else
    return __builtin_popcount(bits);
#endif
}

FLIC_HD int lowest_bit(uint32_t bits) {
#if defined(__CUDA_ARCH__)
    return __ffs(static_cast<int>(bits)) - 1;
#else
    return __builtin_ctz(bits);
#endif
}

FLIC_HD int highest_bit(uint32_t bits) {
#if defined(__CUDA_ARCH__)
    return 31 - __clz(static_cast<int>(bits));
#else
    return 31 - __builtin_clz(bits);
#endif
}

// An index that is no table's comes back as `count`, whatever it was.
FLIC_HD uint32_t load_index(const WarpPush& push, int64_t at) {
    const uint32_t index = push.index_bytes == 4 ? static_cast<const uint32_t*>(push.indexes)[at]
                                                 : static_cast<const uint16_t*>(push.indexes)[at];
    return index < push.tables.count ? index : push.tables.count;
}

FLIC_HD int32_t load_symbol(const WarpPush& push, int64_t at) {
    switch (push.symbol_bytes) {
        case 1: return static_cast<const int8_t*>(push.symbols)[at];
        case 2: return static_cast<const int16_t*>(push.symbols)[at];
        default: return static_cast<const int32_t*>(push.symbols)[at];
    }
}

// NaN and infinity get an index that the coder refuses: an error that stays on the device.
FLIC_HD int32_t warp_gaussian_index(const GaussianGrid& grid, float mean, float scale,
                                    int32_t* center) {
    *center = 0;
    if (!is_finite(mean) || !is_finite(scale)) return -1;
    return gaussian_index(grid, mean, scale, center);
}

FLIC_HD uint32_t bits_below(int lane) { return (uint32_t{1} << lane) - 1; }

// Decoding: a record at work.
template <class W>
struct WarpDecoder {
    const uint8_t* data;
    int64_t words, words_end, escapes, escapes_end;
    int lanes;
    uint32_t my_state;

    // The escape of the table `index` that thread `source` met; every thread reads it. False where
    // it is malformed.
    FLIC_HD bool read_escape(const EncodeTable& table, int32_t* symbol) {
        uint64_t code;
        const int bytes = read_code(data + escapes, data + escapes_end, &code);
        escapes += bytes;
        return bytes > 0 && escape_symbol(table, code, symbol);
    }

    // Positions 0 .. count - 1 behind `offset`; from `skip` on, busy ones are left out.
    FLIC_HD int span(const WarpPush& push, int64_t offset, int64_t count, int64_t skip,
                     int32_t* out) {
        const int lane = W::lane();
        const TablesView& tables = push.tables;
        // The next round's index is on its way while this round decodes.
        uint32_t my_next = lane < lanes && lane < count ? load_index(push, offset + lane) : 0;
        for (int64_t base = 0; base < count; base += lanes) {
            const int64_t j = base + lane;
            const uint32_t my_index = my_next;
            const bool here = lane < lanes && j < count;
            my_next = lane < lanes && j + lanes < count ? load_index(push, offset + j + lanes) : 0;
            if (W::ballot(here && my_index == tables.count)) return FLIC_BAD_INDEX;
            const bool active = here && !(j >= skip && tables.busy[my_index]);
            Found my_found{};
            if (active) {
                my_found = find(tables, my_index, my_state & (kTotal - 1));
                my_state = get(my_state, my_found.start, my_found.frequency);
            }
            uint32_t escaped = W::ballot(active && my_found.escape);
            for (; escaped; escaped &= escaped - 1) {
                const int source = lowest_bit(escaped);
                int32_t symbol;
                const EncodeTable table = tables.encode[W::shuffle(my_index, source)];
                if (!read_escape(table, &symbol)) return FLIC_CORRUPT_ESCAPE;
                if (lane == source) my_found.symbol = symbol;
            }
            if (active) out[j] = my_found.symbol;
            const uint32_t reading = W::ballot(active && my_state < kStateLow);
            const int64_t after = words + 2 * count_bits(reading);
            if (after > words_end) return FLIC_CORRUPT_WORDS;
            if (active && my_state < kStateLow) {
                const uint8_t* word = data + words + 2 * count_bits(reading & bits_below(lane));
                my_state = my_state << kWordBits | word[0] | static_cast<uint32_t>(word[1]) << 8;
            }
            words = after;
        }
        return FLIC_OK;
    }

    // Where the last `symbols` busy positions begin, -1 where there are fewer.
    FLIC_HD int64_t tail_begin(const WarpPush& push, int64_t offset, int64_t count,
                               int64_t symbols) {
        if (symbols == 0) return count;
        for (int64_t base = (count - 1) / kWarp * kWarp; count > 0 && base >= 0; base -= kWarp) {
            const int64_t j = base + W::lane();
            const uint32_t my_index = j < count ? load_index(push, offset + j) : 0;
            const bool known = j < count && my_index < push.tables.count;
            uint32_t busy = W::ballot(known && push.tables.busy[my_index]);
            int found = count_bits(busy);
            if (found >= symbols) {
                for (; found > symbols; --found) busy &= busy - 1;
                return base + lowest_bit(busy);
            }
            symbols -= found;
        }
        return -1;
    }

    // Decodes the busy positions from `skip` on out of the lanes' end states.
    FLIC_HD int tail(const WarpPush& push, int64_t offset, int64_t count, int64_t skip,
                     int32_t* out) {
        const int lane = W::lane();
        const TablesView& tables = push.tables;
        if (W::ballot(lane < lanes && my_state >> kWordBits != 1)) return FLIC_CORRUPT_END;
        const uint32_t my_seed = my_state & 0xffff;
        uint32_t state = W::shuffle(my_seed, 0) | W::shuffle(my_seed, 1) << kWordBits;
        if (state < kStateLow) return FLIC_CORRUPT_STATES;
        int used = 2;
        for (int64_t base = skip / kWarp * kWarp; base < count; base += kWarp) {
            const int64_t j = base + lane;
            const bool here = j >= skip && j < count;
            const uint32_t my_index = here ? load_index(push, offset + j) : 0;
            uint32_t busy = W::ballot(here && tables.busy[my_index]);
            for (; busy; busy &= busy - 1) {
                const int source = lowest_bit(busy);
                const uint32_t index = W::shuffle(my_index, source);
                const Found found = find(tables, index, state & (kTotal - 1));
                state = get(state, found.start, found.frequency);
                int32_t symbol = found.symbol;
                if (found.escape && !read_escape(tables.encode[index], &symbol)) {
                    return FLIC_CORRUPT_ESCAPE;
                }
                if (lane == source) out[j] = symbol;
                if (state < kStateLow) {
                    if (used == lanes) return FLIC_CORRUPT_WORDS;
                    state = state << kWordBits | W::shuffle(my_seed, used++);
                }
            }
        }
        const bool my_rest = lane >= used && lane < lanes && my_seed != 0;
        if (state != kStateLow || W::ballot(my_rest)) return FLIC_CORRUPT_END;
        my_state = kStateLow;
        return FLIC_OK;
    }

    FLIC_HD int pull(const GroupRecord& record, const WarpPush& push, int32_t* out) {
        if (record.pulled == record.pushes) return FLIC_CORRUPT_PULLS;
        const bool last = record.pulled + 1 == record.pushes && record.lanes > 1;
        const Part part = group_part(push.count, record.group, record.groups);
        const int64_t offset = record.picture * push.count + part.begin;
        const int64_t count = part.end - part.begin;
        int64_t skip = count;
        if (last) skip = tail_begin(push, offset, count, record.tail_symbols);
        if (skip < 0) return FLIC_CORRUPT_HEADER;
        const int status = span(push, offset, count, skip, out + offset);
        if (status != FLIC_OK || !last) return status;
        return tail(push, offset, count, skip, out + offset);
    }
};

// Decodes a record's part of a push; its status keeps the first failure.
template <class W>
FLIC_HD void warp_decode(GroupRecord& record, const WarpPush& push, const uint8_t* data,
                         int32_t* out) {
    const int lane = W::lane();
    if (record.status != FLIC_OK) return;
    WarpDecoder<W> decoder{
        data,         record.words,       record.words_end, record.escapes, record.escapes_end,
        record.lanes, record.states[lane]};
    const int status = decoder.pull(record, push, out);
    W::sync();  // every thread has read the record before it changes
    record.states[lane] = decoder.my_state;
    if (lane == 0) {
        record.words = decoder.words;
        record.escapes = decoder.escapes;
        record.pulled += 1;
        record.status = status;
    }
}

// After the last pull: whether the stream ended where it should.
template <class W>
FLIC_HD void warp_close(GroupRecord& record) {
    const int lane = W::lane();
    const bool my_end = lane >= record.lanes || record.states[lane] == kStateLow;
    const bool ended = record.words == record.words_end && record.escapes == record.escapes_end;
    const bool wrong = W::ballot(!my_end) != 0 || !ended;
    if (lane != 0 || record.status != FLIC_OK) return;
    if (record.pulled != record.pushes) {
        record.status = FLIC_CORRUPT_PULLS;
    } else if (wrong) {
        record.status = FLIC_CORRUPT_END;
    }
}

}  // namespace rans
}  // namespace flic
