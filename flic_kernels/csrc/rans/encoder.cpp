// The encoder: buffered pushes in, one stream out. It runs backwards, from the last symbol.

#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

#include "stream.h"
#include "symbol.h"

namespace flic {
namespace rans {
namespace {

struct Push {
    const void* symbols;
    const void* indexes;
    int64_t count;
    const Tables* tables;
    int32_t symbol_bytes;
    int32_t index_bytes;
};

// Lanes are halved while a group's payload, in bytes, is below 128 a lane.
constexpr int64_t kPayloadPerLane = 128;
// Groups are doubled while each keeps this many symbols.
constexpr int64_t kSymbolsPerGroup = int64_t{1} << 20;
// The tail takes its symbols from this many last positions.
constexpr int64_t kTailReach = int64_t{1} << 14;

Span span_of(const Push& push, Part part) {
    Span span{};
    const auto* symbols = static_cast<const uint8_t*>(push.symbols);
    const auto* indexes = static_cast<const uint8_t*>(push.indexes);
    span.symbols = symbols + part.begin * push.symbol_bytes;
    span.indexes = indexes + part.begin * push.index_bytes;
    span.count = part.end - part.begin;
    span.skip = span.count;
    span.tables = push.tables;
    span.symbol_bytes = push.symbol_bytes;
    span.index_bytes = push.index_bytes;
    return span;
}

struct FreeMemory {
    void operator()(uint8_t* memory) const { std::free(memory); }
};

// Room for the worst case, filled from its end; pages that stay unused cost nothing.
struct Buffer {
    std::unique_ptr<uint8_t, FreeMemory> memory;
    uint8_t* end;

    explicit Buffer(int64_t bytes) : memory(static_cast<uint8_t*>(std::malloc(bytes))) {
        if (!memory) throw std::bad_alloc();
        end = memory.get() + bytes;
    }
};

struct Group {
    EncodeLanes lanes;
    Buffer words, escapes;
    int64_t tail_symbols = 0;

    explicit Group(int64_t symbols)
        : words(2 * symbols + 2 * kMaxLanes), escapes(kMaxEscapeBytes * symbols + 1) {}

    int64_t word_bytes() const { return words.end - lanes.words; }
    int64_t escape_bytes() const { return escapes.end - lanes.escapes; }
};

// Codes the last busy symbols of the span with one state of its own; its words seed the lanes.
template <class Symbol, class Index>
int encode_tail_typed(Group& group, Span& span) {
    const int room = group.lanes.lanes;
    uint8_t* const top = group.words.end;
    EncodeLanes tail{};
    tail.lanes = 1;
    tail.states[0] = kStateLow;
    tail.words = top;
    tail.escapes = group.lanes.escapes;
    Span one = span;
    one.skip = INT64_MAX;
    const Tables& tables = *span.tables;
    const int64_t last = std::max<int64_t>(0, span.count - kTailReach);
    for (int64_t j = span.count; j-- > last;) {
        const Index index = static_cast<const Index*>(span.indexes)[j];
        if (!index_is_valid(index, tables)) return FLIC_BAD_INDEX;
        if (!tables.busy[index]) continue;
        const EncodeTable& table = tables.encode[index];
        const int32_t symbol = static_cast<const Symbol*>(span.symbols)[j];
        const uint32_t interval =
            tables.intervals[table.first + symbol_interval(table, symbol)];
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
    group.lanes.words = group.words.end;
    group.lanes.escapes = group.escapes.end;
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

using Bytes = std::vector<uint8_t>;

void append_code(Bytes& out, uint64_t code) {
    uint8_t bytes[kMaxEscapeBytes];
    write_code(code, bytes);
    out.insert(out.end(), bytes, bytes + code_bytes(code));
}

void append_states(Bytes& out, const EncodeLanes& lanes) {
    uint64_t pending = 0;
    int bits = 0;
    const auto put_bits = [&](uint64_t value, int count) {
        pending |= value << bits;
        for (bits += count; bits >= 8; bits -= 8, pending >>= 8) {
            out.push_back(static_cast<uint8_t>(pending));
        }
    };
    const auto length = [&](int lane) { return 31 - __builtin_clz(lanes.states[lane]); };
    for (int i = 0; i < lanes.lanes; ++i) put_bits(static_cast<uint64_t>(length(i) - 16), 4);
    for (int i = 0; i < lanes.lanes; ++i) {
        put_bits(lanes.states[i] & ((uint32_t{1} << length(i)) - 1), length(i));
    }
    if (bits) out.push_back(static_cast<uint8_t>(pending));
}

Bytes group_bytes(const Group& group) {
    Bytes out;
    out.reserve(static_cast<size_t>(group.word_bytes() + group.escape_bytes()) + 256);
    if (group.lanes.lanes > 1) append_code(out, static_cast<uint64_t>(group.tail_symbols));
    append_code(out, static_cast<uint64_t>(group.escape_bytes()));
    append_states(out, group.lanes);
    out.insert(out.end(), group.lanes.words, group.words.end);
    out.insert(out.end(), group.lanes.escapes, group.escapes.end);
    return out;
}

int encode_all(const std::vector<Push>& pushes, int lanes, int groups, Bytes& out) {
    int64_t symbols = 0;
    for (const Push& push : pushes) symbols += push.count;
    if (groups == 0) {
        for (groups = 1; groups < kMaxGroups && symbols / groups >= 2 * kSymbolsPerGroup;) {
            groups *= 2;
        }
    }
    const bool choose = lanes == 0;
    if (choose) lanes = kMaxLanes;
    std::vector<Bytes> parts;
    for (int number = 0; number < groups; ++number) {
        int64_t count = 0;
        for (const Push& push : pushes) {
            const Part part = group_part(push.count, number, groups);
            count += part.end - part.begin;
        }
        Group group(count);
        int status = encode_group(group, pushes, number, groups, lanes);
        const int64_t payload = group.word_bytes() + group.escape_bytes();
        if (status == FLIC_OK && choose && groups == 1 && payload < kPayloadPerLane * lanes) {
            while (lanes > 1 && payload < kPayloadPerLane * lanes) lanes /= 2;
            status = encode_group(group, pushes, number, groups, lanes);
        }
        if (status != FLIC_OK) return status;
        parts.push_back(group_bytes(group));
    }
    const auto log2 = [](int power) { return static_cast<uint8_t>(__builtin_ctz(power)); };
    out.push_back(static_cast<uint8_t>(log2(lanes) | log2(groups) << 3));
    append_code(out, pushes.size());
    for (int number = 0; number + 1 < groups; ++number) append_code(out, parts[number].size());
    for (const Bytes& part : parts) out.insert(out.end(), part.begin(), part.end());
    return FLIC_OK;
}

bool is_power_of_two(int value, int most) {
    return value > 0 && value <= most && (value & (value - 1)) == 0;
}

}  // namespace
}  // namespace rans
}  // namespace flic

using flic::rans::Bytes;
using flic::rans::Push;

// Encodes pushes, in order, as one stream. lanes and groups: powers of two up to 32, or 0 to choose.
// *out is the stream, to be read and freed through the functions below.
FLIC_API int flic_rans_encode(const Push* pushes, int64_t count, int lanes, int groups,
                              Bytes** out) {
    if (count < 0 || (count > 0 && !pushes) || !out) return FLIC_BAD_ARGUMENT;
    if (lanes != 0 && !flic::rans::is_power_of_two(lanes, flic::rans::kMaxLanes)) {
        return FLIC_BAD_ARGUMENT;
    }
    if (groups != 0 && !flic::rans::is_power_of_two(groups, flic::rans::kMaxGroups)) {
        return FLIC_BAD_ARGUMENT;
    }
    for (int64_t p = 0; p < count; ++p) {
        const Push& push = pushes[p];
        if (push.count < 0 || !push.tables) return FLIC_BAD_ARGUMENT;
        if (push.count > 0 && (!push.symbols || !push.indexes)) return FLIC_BAD_ARGUMENT;
        if (push.index_bytes != 4 && push.index_bytes != 2) return FLIC_BAD_ARGUMENT;
    }
    try {
        auto stream = std::make_unique<Bytes>();
        const std::vector<Push> all(pushes, pushes + count);
        const int status = flic::rans::encode_all(all, lanes, groups, *stream);
        if (status != FLIC_OK) return status;
        *out = stream.release();
        return FLIC_OK;
    } catch (const std::bad_alloc&) {
        return FLIC_OUT_OF_MEMORY;
    }
}

FLIC_API int64_t flic_rans_bytes_size(const Bytes* bytes) {
    return static_cast<int64_t>(bytes->size());
}

FLIC_API const uint8_t* flic_rans_bytes_data(const Bytes* bytes) { return bytes->data(); }

FLIC_API void flic_rans_bytes_free(Bytes* bytes) { delete bytes; }
