#include "rans/container.h"

#include <memory>
#include <new>

namespace flic {
namespace rans {
namespace {

void append_code(Bytes& out, uint64_t code) {
    uint8_t bytes[kMaxEscapeBytes];
    write_code(code, bytes);
    out.insert(out.end(), bytes, bytes + code_bytes(code));
}

void append_states(Bytes& out, const uint32_t* states, int lanes) {
    uint64_t pending = 0;
    int bits = 0;
    const auto put_bits = [&](uint64_t value, int count) {
        pending |= value << bits;
        for (bits += count; bits >= 8; bits -= 8, pending >>= 8) {
            out.push_back(static_cast<uint8_t>(pending));
        }
    };
    const auto length = [&](int lane) { return 31 - __builtin_clz(states[lane]); };
    for (int i = 0; i < lanes; ++i) put_bits(static_cast<uint64_t>(length(i) - 16), 4);
    for (int i = 0; i < lanes; ++i) {
        put_bits(states[i] & ((uint32_t{1} << length(i)) - 1), length(i));
    }
    if (bits) out.push_back(static_cast<uint8_t>(pending));
}

struct Reader {
    const uint8_t* at;
    const uint8_t* end;

    int64_t left() const { return end - at; }

    bool code(int64_t* value) {
        uint64_t raw;
        const int bytes = read_code(at, end, &raw);
        at += bytes;
        *value = static_cast<int64_t>(raw);
        return bytes > 0;
    }
};

bool read_states(Reader& from, uint32_t* states, int lanes) {
    if (from.left() < (4 * lanes + 7) / 8) return false;
    int64_t position = 0;
    const auto get_bits = [&](int count) {
        uint32_t value = 0;
        for (int bit = 0; bit < count; ++bit, ++position) {
            const uint32_t set = from.at[position >> 3] >> (position & 7) & 1;
            value |= set << bit;
        }
        return value;
    };
    int lengths[kMaxLanes];
    int64_t bits = 4 * lanes;
    for (int i = 0; i < lanes; ++i) bits += lengths[i] = static_cast<int>(get_bits(4)) + 16;
    const int64_t bytes = (bits + 7) / 8;
    if (from.left() < bytes) return false;
    for (int i = 0; i < lanes; ++i) states[i] = get_bits(lengths[i]) | uint32_t{1} << lengths[i];
    if (get_bits(static_cast<int>(8 * bytes - position)) != 0) return false;
    from.at += bytes;
    return true;
}

int open_group(const uint8_t* data, Reader from, GroupRecord& record) {
    int64_t escapes;
    if (record.lanes > 1 && !from.code(&record.tail_symbols)) return FLIC_CORRUPT_HEADER;
    if (!from.code(&escapes)) return FLIC_CORRUPT_HEADER;
    if (!read_states(from, record.states, record.lanes)) return FLIC_CORRUPT_STATES;
    if (escapes > from.left()) return FLIC_CORRUPT_HEADER;
    if ((from.left() - escapes) % 2 != 0) return FLIC_CORRUPT_WORDS;
    record.words = from.at - data;
    record.words_end = record.escapes = from.end - data - escapes;
    record.escapes_end = from.end - data;
    return FLIC_OK;
}

}  // namespace

Bytes group_bytes(const GroupRecord& record, const uint8_t* buffer) {
    Bytes out;
    const int64_t payload = record.words_end - record.words + record.escapes_end - record.escapes;
    out.reserve(static_cast<size_t>(payload) + 256);
    if (record.lanes > 1) append_code(out, static_cast<uint64_t>(record.tail_symbols));
    append_code(out, static_cast<uint64_t>(record.escapes_end - record.escapes));
    append_states(out, record.states, record.lanes);
    out.insert(out.end(), buffer + record.words, buffer + record.words_end);
    out.insert(out.end(), buffer + record.escapes, buffer + record.escapes_end);
    return out;
}

void append_stream(Bytes& out, const std::vector<Bytes>& groups, int lanes, int64_t pushes) {
    const auto log2 = [](size_t power) { return __builtin_ctz(static_cast<unsigned>(power)); };
    out.push_back(
        static_cast<uint8_t>(log2(static_cast<size_t>(lanes)) | log2(groups.size()) << 3));
    append_code(out, static_cast<uint64_t>(pushes));
    for (size_t g = 0; g + 1 < groups.size(); ++g) append_code(out, groups[g].size());
    for (const Bytes& part : groups) out.insert(out.end(), part.begin(), part.end());
}

int open_stream(const uint8_t* data, int64_t size, std::vector<GroupRecord>& records) {
    Reader from{data, data + size};
    if (from.left() < 1) return FLIC_CORRUPT_HEADER;
    const int first = *from.at++;
    if (first >> 6 != 0 || (first & 7) > 5 || first >> 3 > 5) return FLIC_CORRUPT_HEADER;
    const int groups = 1 << (first >> 3);
    int64_t pushes;
    if (!from.code(&pushes)) return FLIC_CORRUPT_HEADER;
    int64_t sizes[kMaxGroups];
    int64_t total = 0;
    for (int g = 0; g + 1 < groups; ++g) {
        if (!from.code(&sizes[g])) return FLIC_CORRUPT_HEADER;
        total += sizes[g];
    }
    if (total > from.left()) return FLIC_CORRUPT_HEADER;
    sizes[groups - 1] = from.left() - total;
    records.assign(static_cast<size_t>(groups), GroupRecord{});
    for (int g = 0; g < groups; ++g) {
        GroupRecord& record = records[static_cast<size_t>(g)];
        record.lanes = 1 << (first & 7);
        record.group = g;
        record.groups = groups;
        record.pushes = pushes;
        const int status = open_group(data, Reader{from.at, from.at + sizes[g]}, record);
        if (status != FLIC_OK) return status;
        from.at += sizes[g];
    }
    return FLIC_OK;
}

}  // namespace rans
}  // namespace flic

using flic::rans::Bytes;

// The two ends of coding on a device, which holds its groups' records itself.
// Opens a stream: up to 32 records, *groups of them, for picture `picture` of a batch whose streams
// lie one behind the other, this one from `base` on.
FLIC_API int flic_rans_records_open(const uint8_t* data, int64_t size, int picture, int64_t base,
                                    FlicGroupRecord* records, int* groups) {
    if (size < 0 || (size > 0 && !data) || !records || !groups) return FLIC_BAD_ARGUMENT;
    try {
        std::vector<FlicGroupRecord> opened;
        const int status = flic::rans::open_stream(data, size, opened);
        if (status != FLIC_OK) return status;
        *groups = static_cast<int>(opened.size());
        for (FlicGroupRecord& record : opened) {
            record.picture = picture;
            record.words += base;
            record.words_end += base;
            record.escapes += base;
            record.escapes_end += base;
            *records++ = record;
        }
        return FLIC_OK;
    } catch (const std::bad_alloc&) {
        return FLIC_OUT_OF_MEMORY;
    }
}

// The stream of a picture's records, whose words and escapes lie in buffer.
FLIC_API int flic_rans_records_close(const FlicGroupRecord* records, int groups, int64_t pushes,
                                     const uint8_t* buffer, FlicBytes** out) {
    if (!records || groups < 1 || !buffer || !out) return FLIC_BAD_ARGUMENT;
    try {
        std::vector<Bytes> parts;
        for (int g = 0; g < groups; ++g) {
            parts.push_back(flic::rans::group_bytes(records[g], buffer));
        }
        auto stream = std::make_unique<Bytes>();
        flic::rans::append_stream(*stream, parts, records[0].lanes, pushes);
        *out = stream.release();
        return FLIC_OK;
    } catch (const std::bad_alloc&) {
        return FLIC_OUT_OF_MEMORY;
    }
}

FLIC_API int64_t flic_rans_bytes_size(const FlicBytes* bytes) {
    return static_cast<int64_t>(bytes->size());
}

FLIC_API const uint8_t* flic_rans_bytes_data(const FlicBytes* bytes) { return bytes->data(); }

FLIC_API void flic_rans_bytes_free(FlicBytes* bytes) { delete bytes; }
