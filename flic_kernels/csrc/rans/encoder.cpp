// The encoder: buffered pushes in, one stream out. It runs backwards, from the last symbol.

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

#include "base/float_environment.h"
#include "rans/container.h"
#include "rans/symbol.h"

namespace flic {
namespace rans {
namespace {

using Push = FlicPush;

// Vector loops write words by the block.
constexpr int64_t kPadding = 64;

Span span_of(const Push& push, Part part) {
    Span span{};
    const auto* symbols = static_cast<const uint8_t*>(push.symbols);
    const auto* indexes = static_cast<const uint8_t*>(push.indexes);
    span.symbols = symbols + part.begin * push.symbol_bytes;
    span.indexes = indexes + part.begin * push.index_bytes;
    span.count = part.end - part.begin;
    span.skip = span.count;
    span.tables = push.tables->view();
    span.symbol_bytes = push.symbol_bytes;
    span.index_bytes = push.index_bytes;
    return span;
}

struct FreeMemory {
    void operator()(uint8_t* memory) const { std::free(memory); }
};

// Lanes with room for the worst case: words and escapes are filled from their ends. Pages that stay
// unused cost nothing.
struct Group {
    EncodeLanes lanes;
    std::unique_ptr<uint8_t, FreeMemory> memory;
    uint8_t *words_end, *escapes_end;
    int64_t tail_symbols = 0;

    explicit Group(int64_t symbols) {
        const int64_t words = kPadding + 2 * symbols + 2 * kMaxLanes;
        const int64_t bytes = words + kMaxEscapeBytes * symbols;
        memory.reset(static_cast<uint8_t*>(std::malloc(static_cast<size_t>(bytes))));
        if (!memory) throw std::bad_alloc();
        words_end = memory.get() + words;
        escapes_end = memory.get() + bytes;
    }

    int64_t payload() const { return words_end - lanes.words + escapes_end - lanes.escapes; }

    Bytes bytes() const {
        GroupRecord record{};
        std::copy_n(lanes.states, kMaxLanes, record.states);
        record.words = lanes.words - memory.get();
        record.words_end = words_end - memory.get();
        record.escapes = lanes.escapes - memory.get();
        record.escapes_end = escapes_end - memory.get();
        record.tail_symbols = tail_symbols;
        record.lanes = lanes.lanes;
        return group_bytes(record, memory.get());
    }
};

// Codes the last busy symbols of the span with one state of its own; its words seed the lanes.
template <class Symbol, class Index>
int encode_tail_typed(Group& group, Span& span) {
    const int room = group.lanes.lanes;
    uint8_t* const top = group.words_end;
    EncodeLanes tail{};
    tail.lanes = 1;
    tail.states[0] = kStateLow;
    tail.words = top;
    tail.escapes = group.lanes.escapes;
    Span one = span;
    one.skip = INT64_MAX;
    const TablesView& tables = span.tables;
    const int64_t last = std::max<int64_t>(0, span.count - kTailReach);
    for (int64_t j = span.count; j-- > last;) {
        const Index index = static_cast<const Index*>(span.indexes)[j];
        if (!index_is_valid(index, tables)) return FLIC_BAD_INDEX;
        if (!tables.busy[index]) continue;
        const EncodeTable& table = tables.encode[index];
        const int32_t symbol = static_cast<const Symbol*>(span.symbols)[j];
        const uint32_t interval = tables.intervals[table.first + symbol_interval(table, symbol)];
        if (must_emit(tail.states[0], interval_frequency(interval)) &&
            top - tail.words == 2 * (room - 2)) {
            break;
        }
        const int status = encode_at<Symbol, Index>(tail, one, j);
        if (status != FLIC_OK) return status;
        span.skip = j;
        ++group.tail_symbols;
    }
    group.lanes.escapes = tail.escapes;
    tail.words -= 4;
    store_word(tail.words, tail.states[0]);
    store_word(tail.words + 2, tail.states[0] >> kWordBits);
    for (int lane = 0; tail.words < top; ++lane, tail.words += 2) {
        group.lanes.states[lane] |= load_word(tail.words);
    }
    return FLIC_OK;
}

int encode_group(Group& group, const std::vector<Push>& pushes, int number, int groups, int lanes) {
    group.lanes.lanes = lanes;
    group.lanes.words = group.words_end;
    group.lanes.escapes = group.escapes_end;
    group.tail_symbols = 0;
    for (uint32_t& state : group.lanes.states) state = kStateLow;
    const LaneCoder& coder = lane_coder();
    for (size_t p = pushes.size(); p-- > 0;) {
        Span span = span_of(pushes[p], group_part(pushes[p].count, number, groups));
        int status = FLIC_OK;
        if (p + 1 == pushes.size() && lanes > 1) {
            status = with_types(span, [&](auto symbol, auto index) {
                return encode_tail_typed<decltype(symbol), decltype(index)>(group, span);
            });
        }
        if (status == FLIC_OK) status = coder.encode(group.lanes, span);
        if (status != FLIC_OK) return status;
    }
    return FLIC_OK;
}

// Codes every group; *payload is the bytes of their words and escapes.
int encode_groups(const std::vector<Push>& pushes, int lanes, int groups, std::vector<Bytes>& parts,
                  int64_t* payload) {
    parts.clear();
    *payload = 0;
    for (int number = 0; number < groups; ++number) {
        int64_t count = 0;
        for (const Push& push : pushes) {
            const Part part = group_part(push.count, number, groups);
            count += part.end - part.begin;
        }
        Group group(count);
        const int status = encode_group(group, pushes, number, groups, lanes);
        if (status != FLIC_OK) return status;
        *payload += group.payload();
        parts.push_back(group.bytes());
    }
    return FLIC_OK;
}

int encode_all(const std::vector<Push>& pushes, int lanes, int groups, Bytes& out) {
    const bool choose_lanes = lanes == 0;
    const bool choose_groups = groups == 0;
    if (choose_lanes) lanes = kMaxLanes;
    if (choose_groups) {
        int64_t symbols = 0;
        for (const Push& push : pushes) symbols += push.count;
        groups = 1;
        while (groups < kMaxGroups && symbols / groups >= 2 * kSymbolsPerGroup) groups *= 2;
    }
    std::vector<Bytes> parts;
    int64_t payload;
    int status = encode_groups(pushes, lanes, groups, parts, &payload);
    const int all_lanes = lanes * groups;
    while (choose_groups && groups > 1 && payload < kPayloadPerLane * lanes * groups) groups /= 2;
    while (choose_lanes && groups == 1 && lanes > 1 && payload < kPayloadPerLane * lanes) {
        lanes /= 2;
    }
    if (status == FLIC_OK && lanes * groups != all_lanes) {
        status = encode_groups(pushes, lanes, groups, parts, &payload);
    }
    if (status != FLIC_OK) return status;
    append_stream(out, parts, lanes, static_cast<int64_t>(pushes.size()));
    return FLIC_OK;
}

bool is_power_of_two(int value, int most) {
    return value > 0 && value <= most && (value & (value - 1)) == 0;
}

}  // namespace
}  // namespace rans
}  // namespace flic

using flic::rans::Bytes;

// Encodes pushes, in order, as one stream. lanes and groups: powers of two up to 32, or 0 to
// choose. *out is the stream, to be read and freed through the functions below.
FLIC_API int flic_rans_encode(const FlicPush* pushes, int64_t count, int lanes, int groups,
                              FlicBytes** out) {
    if (count < 0 || (count > 0 && !pushes) || !out) return FLIC_BAD_ARGUMENT;
    if (lanes != 0 && !flic::rans::is_power_of_two(lanes, flic::rans::kMaxLanes)) {
        return FLIC_BAD_ARGUMENT;
    }
    if (groups != 0 && !flic::rans::is_power_of_two(groups, flic::rans::kMaxGroups)) {
        return FLIC_BAD_ARGUMENT;
    }
    for (int64_t p = 0; p < count; ++p) {
        const FlicPush& push = pushes[p];
        if (push.count < 0 || !push.tables) return FLIC_BAD_ARGUMENT;
        if (push.count > 0 && (!push.symbols || !push.indexes)) return FLIC_BAD_ARGUMENT;
        if (push.index_bytes != 4 && push.index_bytes != 2) return FLIC_BAD_ARGUMENT;
    }
    const flic::FloatEnvironment environment;  // vectors divide in float32
    try {
        auto stream = std::make_unique<Bytes>();
        const std::vector<FlicPush> all(pushes, pushes + count);
        const int status = flic::rans::encode_all(all, lanes, groups, *stream);
        if (status != FLIC_OK) return status;
        *out = stream.release();
        return FLIC_OK;
    } catch (const std::bad_alloc&) {
        return FLIC_OUT_OF_MEMORY;
    }
}
