// The decoder: a stream in, pulls out. It accepts any bytes and checks everything.

#include <algorithm>
#include <memory>
#include <new>
#include <vector>

#include "rans/container.h"
#include "rans/symbol.h"

namespace flic {
namespace rans {

struct DecodeGroup {
    DecodeLanes lanes;
    int64_t tail_symbols;
};

struct Decoder {
    std::vector<uint8_t> data;  // the stream, then padding
    std::vector<DecodeGroup> groups;
    int64_t pushes;
    int64_t pulled;
    int failed;  // the first failure, repeated by every later call
};

namespace {

constexpr size_t kPadding = 64;  // vector loops read words by the block

int open(Decoder& decoder) {
    const uint8_t* data = decoder.data.data();
    std::vector<GroupRecord> records;
    const int status =
        open_stream(data, static_cast<int64_t>(decoder.data.size() - kPadding), records);
    if (status != FLIC_OK) return status;
    decoder.pushes = records[0].pushes;
    for (const GroupRecord& record : records) {
        DecodeGroup group{};
        std::copy_n(record.states, kMaxLanes, group.lanes.states);
        group.lanes.lanes = record.lanes;
        group.lanes.words = data + record.words;
        group.lanes.words_end = data + record.words_end;
        group.lanes.escapes = data + record.escapes;
        group.lanes.escapes_end = data + record.escapes_end;
        group.tail_symbols = record.tail_symbols;
        decoder.groups.push_back(group);
    }
    return FLIC_OK;
}

// Where the last `symbols` busy positions begin, count where there are none, -1 where too few.
template <class Index>
int64_t tail_begin(const Span& span, int64_t symbols) {
    int64_t j = span.count;
    for (; symbols > 0; --symbols) {
        do {
            if (--j < 0) return -1;
            const Index index = static_cast<const Index*>(span.indexes)[j];
            if (!index_is_valid(index, span.tables)) return -1;
            if (span.tables.busy[index]) break;
        } while (true);
    }
    return j;
}

// Decodes what the lanes' end states hold.
template <class Index>
int decode_tail(DecodeGroup& group, const Span& span) {
    uint8_t seeds[2 * kMaxLanes];
    for (int i = 0; i < group.lanes.lanes; ++i) {
        if (group.lanes.states[i] >> kWordBits != 1) return FLIC_CORRUPT_END;
        store_word(seeds + 2 * i, group.lanes.states[i]);
    }
    DecodeLanes tail = group.lanes;
    tail.lanes = 1;
    tail.states[0] = load_word(seeds) | load_word(seeds + 2) << kWordBits;
    if (tail.states[0] < kStateLow) return FLIC_CORRUPT_STATES;
    tail.words = seeds + 4;
    tail.words_end = seeds + 2 * group.lanes.lanes;
    Span one = span;
    one.skip = INT64_MAX;
    for (int64_t j = span.skip; j < span.count; ++j) {
        if (!span.tables.busy[static_cast<const Index*>(span.indexes)[j]]) continue;
        const int status = decode_at<Index>(tail, one, j);
        if (status != FLIC_OK) return status;
    }
    if (tail.states[0] != kStateLow) return FLIC_CORRUPT_END;
    if (std::any_of(tail.words, tail.words_end, [](uint8_t byte) { return byte != 0; })) {
        return FLIC_CORRUPT_END;
    }
    group.lanes.escapes = tail.escapes;
    for (uint32_t& state : group.lanes.states) state = kStateLow;
    return FLIC_OK;
}

template <class Index>
int pull_group(DecodeGroup& group, Span& span, bool last) {
    if (last && group.lanes.lanes > 1) {
        span.skip = tail_begin<Index>(span, group.tail_symbols);
        if (span.skip < 0) return FLIC_CORRUPT_HEADER;
    }
    const int status = lane_coder().decode(group.lanes, span);
    if (status != FLIC_OK || !last || group.lanes.lanes == 1) return status;
    return decode_tail<Index>(group, span);
}

int pull(Decoder& decoder, const void* indexes, int index_bytes, int64_t count,
         const Tables& tables, int32_t* out) {
    if (decoder.pulled == decoder.pushes) return FLIC_CORRUPT_PULLS;
    const bool last = ++decoder.pulled == decoder.pushes;
    const int groups = static_cast<int>(decoder.groups.size());
    for (int g = 0; g < groups; ++g) {
        const Part part = group_part(count, g, groups);
        Span span{};
        span.indexes = static_cast<const uint8_t*>(indexes) + part.begin * index_bytes;
        span.out = out + part.begin;
        span.count = span.skip = part.end - part.begin;
        span.tables = tables.view();
        span.index_bytes = index_bytes;
        DecodeGroup& group = decoder.groups[g];
        const int status = index_bytes == 4 ? pull_group<int32_t>(group, span, last)
                                            : pull_group<uint16_t>(group, span, last);
        if (status != FLIC_OK) return status;
    }
    return FLIC_OK;
}

int close(const Decoder& decoder) {
    if (decoder.pulled != decoder.pushes) return FLIC_CORRUPT_PULLS;
    for (const DecodeGroup& group : decoder.groups) {
        const DecodeLanes& lanes = group.lanes;
        if (lanes.words != lanes.words_end || lanes.escapes != lanes.escapes_end) {
            return FLIC_CORRUPT_END;
        }
        for (int i = 0; i < lanes.lanes; ++i) {
            if (lanes.states[i] != kStateLow) return FLIC_CORRUPT_END;
        }
    }
    return FLIC_OK;
}

}  // namespace
}  // namespace rans
}  // namespace flic

struct FlicDecoder final : flic::rans::Decoder {};

// Opens a stream, of which the decoder keeps a copy.
FLIC_API int flic_rans_decoder_new(const uint8_t* data, int64_t size, FlicDecoder** out) {
    if (size < 0 || (size > 0 && !data) || !out) return FLIC_BAD_ARGUMENT;
    try {
        auto decoder = std::make_unique<FlicDecoder>();
        decoder->data.reserve(static_cast<size_t>(size) + flic::rans::kPadding);
        if (size > 0) decoder->data.assign(data, data + size);
        decoder->data.resize(static_cast<size_t>(size) + flic::rans::kPadding);
        const int status = flic::rans::open(*decoder);
        if (status != FLIC_OK) return status;
        *out = decoder.release();
        return FLIC_OK;
    } catch (const std::bad_alloc&) {
        return FLIC_OUT_OF_MEMORY;
    }
}

// Decodes the next push: count symbols, of which symbol i has table indexes[i].
FLIC_API int flic_rans_decoder_pull(FlicDecoder* decoder, const void* indexes, int index_bytes,
                                    int64_t count, const FlicTables* tables, int32_t* out) {
    if (!decoder || !tables || count < 0) return FLIC_BAD_ARGUMENT;
    if (count > 0 && (!indexes || !out)) return FLIC_BAD_ARGUMENT;
    if (index_bytes != 4 && index_bytes != 2) return FLIC_BAD_ARGUMENT;
    if (decoder->failed == FLIC_OK) {
        decoder->failed = flic::rans::pull(*decoder, indexes, index_bytes, count, *tables, out);
    }
    return decoder->failed;
}

// Checks that the stream ended where it should.
FLIC_API int flic_rans_decoder_close(const FlicDecoder* decoder) {
    if (!decoder) return FLIC_BAD_ARGUMENT;
    return decoder->failed != FLIC_OK ? decoder->failed : flic::rans::close(*decoder);
}

FLIC_API void flic_rans_decoder_free(FlicDecoder* decoder) { delete decoder; }
