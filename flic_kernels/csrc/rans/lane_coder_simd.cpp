// The loops over a span, compiled for each instruction set. With vectors, lanes 0 .. width - 1 are
// the first one, and so on; fewer lanes than that, and everything in plain C++, go one by one.

#include "rans/symbol.h"
#include "rans/vectors.h"

namespace flic {
namespace rans {
namespace {

#if defined(FLIC_VECTORS)

// Symbols that the vectors of a round have not settled, in lane order: a slot beyond the second
// interval of its bucket, an escape. `before` and `after` are the lanes' states.
template <class Index>
inline int decode_rest(DecodeLanes& lanes, const Span& span, int64_t j, uint32_t rest,
                       const uint32_t* before, uint32_t* after) {
    for (; rest; rest &= rest - 1) {
        const int lane = __builtin_ctz(rest);
        const uint32_t index = static_cast<const Index*>(span.indexes)[j + lane];
        if (index >= span.tables.count) return FLIC_BAD_INDEX;
        const Found found = find(span.tables, index, before[lane] & (kTotal - 1));
        after[lane] = get(before[lane], found.start, found.frequency);
        int32_t symbol = found.symbol;
        if (found.escape &&
            !pull_escape(lanes.escapes, lanes.escapes_end, span.tables.encode[index], &symbol)) {
            return FLIC_CORRUPT_ESCAPE;
        }
        span.out[j + lane] = symbol;
    }
    return FLIC_OK;
}

template <class Index, int vectors>
int decode_rounds(DecodeLanes& lanes, const Span& span, int64_t& j, int64_t end) {
    constexpr int round = vectors * V::width;
    const TablesView& tables = span.tables;
    const V::U last_table = V::set(tables.count - 1);
    const auto* indexes = static_cast<const Index*>(span.indexes);
    const uint8_t* words = lanes.words;
    V::U states[vectors];
    for (int v = 0; v < vectors; ++v) states[v] = V::load(lanes.states + v * V::width);
    V::U worst = V::set(0);
    int status = FLIC_OK;
    // A vector's words are read as a block: the data has padding behind it.
    for (; j < end && lanes.words_end - words >= 2 * round && status == FLIC_OK; j += round) {
        for (int v = 0; v < vectors; ++v) {
            const int64_t at = j + v * V::width;
            const V::U wanted = V::load_wide(indexes + at);
            worst = V::max(worst, wanted);
            const V::U locator = V::gather(tables.locators, V::min(wanted, last_table));
            const V::U state = states[v];
            const V::U slot = V::bit_and(state, V::set(kTotal - 1));
            const V::U bucket = V::add(V::template shr<4>(locator),
                                       V::shr_by(slot, V::bit_and(locator, V::set(15))));
            V::U first, rest;
            V::gather_pairs(tables.buckets, bucket, first, rest);
            const V::U frequency = V::template shr<16>(first);
            V::U within = V::sub(slot, V::bit_and(first, V::set(kTotal - 1)));
            const V::U next = V::bit_and(V::template shr<16>(rest), V::set(kTotal - 1));
            const V::Mask second = V::not_less(within, frequency);
            within = V::choose(second, V::sub(within, frequency), within);
            const V::U chosen = V::choose(second, next, frequency);
            // Escape flags: bit 15 of the first half, bit 31 of the second.
            const V::U flags = V::choose(second, V::template shr<16>(rest), first);
            const V::U symbol = V::add_one(second, V::sign_extend_low(rest));
            V::U after = V::add(V::mul(chosen, V::template shr<kPrecision>(state)), within);
            V::store(span.out + at, symbol);
            const uint32_t unsettled =
                V::bits(V::not_less(within, chosen)) | V::any_bit(flags, kEscapeFlag);
            if (__builtin_expect(unsettled != 0, 0)) {
                uint32_t before[V::width], settled[V::width];
                V::store(before, state);
                V::store(settled, after);
                status = decode_rest<Index>(lanes, span, at, unsettled, before, settled);
                if (status != FLIC_OK) break;
                after = V::load(settled);
            }
            const V::Mask low = V::below_low(after);
            const uint32_t reading = V::bits(low);
            states[v] = V::choose(
                low, V::bit_or(V::template shl<kWordBits>(after), V::expand(words, reading)),
                after);
            words += 2 * __builtin_popcount(reading);
        }
    }
    lanes.words = words;
    for (int v = 0; v < vectors; ++v) V::store(lanes.states + v * V::width, states[v]);
    return V::bits(V::not_equal(V::min(worst, last_table), worst)) ? FLIC_BAD_INDEX : status;
}

// From position j, 0, as far as whole rounds go.
template <class Index>
int decode_vectors(DecodeLanes& lanes, const Span& span, int64_t& j) {
    const int64_t end = span.skip & ~static_cast<int64_t>(lanes.lanes - 1);
    switch (lanes.lanes / V::width) {
        case 1: return decode_rounds<Index, 1>(lanes, span, j, end);
        case 2: return decode_rounds<Index, 2>(lanes, span, j, end);
        case 4: return decode_rounds<Index, 4>(lanes, span, j, end);
        default: return FLIC_OK;
    }
}

template <class Symbol, class Index>
inline void push_escapes(EncodeLanes& lanes, const Span& span, int64_t j, uint32_t escaped) {
    while (escaped) {
        const int lane = 31 - __builtin_clz(escaped);
        escaped &= ~(uint32_t{1} << lane);
        const uint32_t index = static_cast<const Index*>(span.indexes)[j + lane];
        if (index >= span.tables.count) continue;  // refused when the rounds end
        push_escape(lanes.escapes, span.tables.encode[index],
                    static_cast<const Symbol*>(span.symbols)[j + lane]);
    }
}

// From position j, a multiple of the lanes, down to 0.
template <class Symbol, class Index, int vectors>
int encode_rounds(EncodeLanes& lanes, const Span& span, int64_t j) {
    constexpr int round = vectors * V::width;
    const TablesView& tables = span.tables;
    const V::U last_table = V::set(tables.count - 1);
    const auto* indexes = static_cast<const Index*>(span.indexes);
    const auto* symbols = static_cast<const Symbol*>(span.symbols);
    uint8_t* words = lanes.words;
    V::U states[vectors];
    for (int v = 0; v < vectors; ++v) states[v] = V::load(lanes.states + v * V::width);
    V::U worst = V::set(0);
    for (j -= round; j >= 0; j -= round) {
        for (int v = vectors; v-- > 0;) {
            const int64_t at = j + v * V::width;
            const V::U wanted = V::load_wide(indexes + at);
            worst = V::max(worst, wanted);
            V::U first, range;
            V::gather_pairs(tables.encode, V::min(wanted, last_table), first, range);
            const V::U escape = V::template shr<16>(range);
            const V::U k = V::sub(V::load_wide(symbols + at), V::sign_extend_low(range));
            const V::U settled = V::min(k, escape);
            const V::U interval = V::gather(tables.intervals, V::add(first, settled));
            const uint32_t escaped = V::any_bit(interval, kEscapeFlag);
            if (__builtin_expect(escaped != 0, 0)) {
                push_escapes<Symbol, Index>(lanes, span, at, escaped);
            }
            const V::U frequency = V::template shr<16>(interval);
            V::U state = states[v];
            const V::Mask emitting =
                V::not_less(V::template shr<32 - kPrecision>(state), frequency);
            words -= 2 * __builtin_popcount(V::bits(emitting));
            V::compress(words, emitting, state);
            state = V::choose(emitting, V::template shr<kWordBits>(state), state);
            // put(): x / f * 2^15 + x % f + start, as x + x / f * (2^15 - f) + start.
            const V::U quotient = V::divide(state, frequency);
            const V::U gap = V::sub(V::set(kTotal), frequency);
            states[v] = V::add(V::add(state, V::bit_and(interval, V::set(kTotal - 1))),
                               V::mul(quotient, gap));
        }
    }
    lanes.words = words;
    for (int v = 0; v < vectors; ++v) V::store(lanes.states + v * V::width, states[v]);
    return V::bits(V::not_equal(V::min(worst, last_table), worst)) ? FLIC_BAD_INDEX : FLIC_OK;
}

// Where whole rounds end.
int64_t rounds_end(const EncodeLanes& lanes, const Span& span) {
    if (lanes.lanes < V::width) return 0;
    return span.skip & ~static_cast<int64_t>(lanes.lanes - 1);
}

template <class Symbol, class Index>
int encode_vectors(EncodeLanes& lanes, const Span& span, int64_t end) {
    switch (lanes.lanes / V::width) {
        case 1: return encode_rounds<Symbol, Index, 1>(lanes, span, end);
        case 2: return encode_rounds<Symbol, Index, 2>(lanes, span, end);
        case 4: return encode_rounds<Symbol, Index, 4>(lanes, span, end);
        default: return FLIC_OK;
    }
}

#else

template <class Index>
int decode_vectors(DecodeLanes&, const Span&, int64_t&) {
    return FLIC_OK;
}

int64_t rounds_end(const EncodeLanes&, const Span&) { return 0; }

template <class Symbol, class Index>
int encode_vectors(EncodeLanes&, const Span&, int64_t) {
    return FLIC_OK;
}

#endif

template <class Index>
int decode_typed(DecodeLanes& lanes, const Span& span) {
    int64_t j = 0;
    int status = decode_vectors<Index>(lanes, span, j);
    for (; j < span.count && status == FLIC_OK; ++j) status = decode_at<Index>(lanes, span, j);
    return status;
}

int decode(DecodeLanes& lanes, const Span& span) {
    return span.index_bytes == 4 ? decode_typed<int32_t>(lanes, span)
                                 : decode_typed<uint16_t>(lanes, span);
}

template <class Symbol, class Index>
int encode_typed(EncodeLanes& lanes, const Span& span) {
    const int64_t end = rounds_end(lanes, span);
    for (int64_t j = span.count; j-- > end;) {
        const int status = encode_at<Symbol, Index>(lanes, span, j);
        if (status != FLIC_OK) return status;
    }
    return encode_vectors<Symbol, Index>(lanes, span, end);
}

int encode(EncodeLanes& lanes, const Span& span) {
    return with_types(span, [&](auto symbol, auto index) {
        return encode_typed<decltype(symbol), decltype(index)>(lanes, span);
    });
}

}  // namespace

namespace FLIC_ISA {
const LaneCoder lane_coder{encode, decode};
}  // namespace FLIC_ISA
}  // namespace rans
}  // namespace flic
