#include "codec/flic_file.h"

#include <string.h>

#include <algorithm>

#include "base/errors.h"
#include "codec/crc32.h"

namespace flic::codec {
namespace {

constexpr uint8_t kMagic[4] = {'F', 'L', 'I', 'C'};
constexpr int kVersion = 3;     // the newest that is read
constexpr int kArithmetic = 1;  // of docs/exact.md and of the coder's tables
constexpr size_t kMaxMetadata = size_t{1} << 24;
constexpr uint8_t kGray = 1, kAlpha = 2, kIcc = 4, kExif = 8;
constexpr int kMaxVarint = 5;
constexpr size_t kStreamHead = 6;

[[noreturn]] void damaged(const std::string& what) {
    throw Error(FLIC_BAD_FILE, "the file is damaged: " + what);
}

std::string by(int64_t width, int64_t height) {
    return std::to_string(width) + "x" + std::to_string(height);
}

void append(std::vector<uint8_t>& out, const void* data, size_t size) {
    const auto* const bytes = static_cast<const uint8_t*>(data);
    out.insert(out.end(), bytes, bytes + size);
}

void append_number(std::vector<uint8_t>& out, uint32_t value, int bytes) {
    for (int i = 0; i < bytes; ++i) out.push_back(static_cast<uint8_t>(value >> (8 * i)));
}

// LEB128: 7 bits a byte, lowest first, the top bit set on all but the last.
void append_varint(std::vector<uint8_t>& out, uint64_t value) {
    if (value >> (7 * kMaxVarint)) {
        throw Error(FLIC_BAD_FILE, std::to_string(value) + " bytes are too many for one section");
    }
    for (; value >= 0x80; value >>= 7) out.push_back(static_cast<uint8_t>(value | 0x80));
    out.push_back(static_cast<uint8_t>(value));
}

void append_section(std::vector<uint8_t>& out, const Section& section) {
    append_varint(out, section.size);
    append(out, section.data, section.size);
}

// Reads fields in order; never past the end.
class Reader {
  public:
    Reader(const uint8_t* data, size_t size) : data_(data), size_(size) {}

    const uint8_t* take(uint64_t count) {
        if (count > size_ - position_) {
            throw Error(FLIC_TRUNCATED, "the file ends early or is damaged: " +
                                            std::to_string(size_) + " bytes where at least " +
                                            std::to_string(position_ + count) + " are needed");
        }
        position_ += count;
        return data_ + position_ - count;
    }
    uint32_t number(int bytes) {
        const uint8_t* const from = take(bytes);
        uint32_t value = 0;
        for (int i = 0; i < bytes; ++i) value |= static_cast<uint32_t>(from[i]) << (8 * i);
        return value;
    }
    uint64_t varint() {
        uint64_t value = 0;
        for (int i = 0; i < kMaxVarint; ++i) {
            const uint8_t byte = *take(1);
            value |= static_cast<uint64_t>(byte & 0x7F) << (7 * i);
            if (byte < 0x80) {
                if (byte == 0 && i > 0) damaged("a number is not in its shortest form");
                return value;
            }
        }
        damaged("a number is too long");
    }
    Section section() {
        const uint64_t size = varint();
        return {take(size), static_cast<size_t>(size)};
    }
    size_t position() const { return position_; }
    size_t size() const { return size_; }

  private:
    const uint8_t* data_;
    size_t size_, position_ = 0;
};

void check_tile(int64_t tile, int width, int height) {
    if (tile < kStride || tile % kStride || tile >= std::max(width, height)) {
        throw Error(FLIC_BAD_FILE, "a picture of " + by(width, height) + " has no tiles of " +
                                       std::to_string(tile) + " pixels");
    }
}

void check_streams(const Container& file) {
    for (size_t i = 0; i < file.streams.size(); ++i) {
        if (file.streams[i].size) continue;
        damaged((file.header.tile ? file.grid().name(static_cast<int64_t>(i))
                                  : std::string("the picture's stream")) +
                " has no bytes");
    }
}

void check_version(int version) {
    if (version > kVersion) {
        throw Error(FLIC_UNSUPPORTED_VERSION,
                    "the file has format version " + std::to_string(version) +
                        "; this flic reads up to version " + std::to_string(kVersion) +
                        ": install a newer flic");
    }
    if (version < 1) {
        throw Error(FLIC_UNSUPPORTED_VERSION,
                    "the file has format version 0, a draft that was never released: encode the "
                    "picture again");
    }
}

// Magic and version, whatever follows.
int begin(Reader& reader) {
    if (!reader.size()) throw Error(FLIC_TRUNCATED, "the file is empty");
    const size_t known = std::min(sizeof kMagic, reader.size());
    if (memcmp(reader.take(known), kMagic, known) != 0) {
        throw Error(FLIC_BAD_FILE, "not a .flic file");
    }
    if (reader.size() <= sizeof kMagic) {
        throw Error(FLIC_TRUNCATED,
                    "the file ends early, after " + std::to_string(reader.size()) + " bytes");
    }
    const int version = *reader.take(1);
    check_version(version);
    return version;
}

float read_step(Reader& reader) {
    const uint32_t bits = reader.number(4);
    float step;
    memcpy(&step, &bits, sizeof step);
    check_step(step, FLIC_BAD_FILE, "the file is damaged: ");
    if (step == 1) damaged("a step of 1 belongs to versions 1 and 2");
    return step;
}

}  // namespace

void check_size(int64_t width, int64_t height, int status) {
    if (width < 1 || height < 1) {
        throw Error(status, "the picture has no pixels (" + by(width, height) + ")");
    }
    if (width > kMaxSide || height > kMaxSide) {
        throw Error(status, by(width, height) + " is too large: at most 65535 pixels a side");
    }
    if (width * height > kMaxPixels) {
        throw Error(status, by(width, height) + " is too large: at most 67 megapixels");
    }
}

void check_step(float step, int status, const std::string& before) {
    if (step >= kFinestStep && step <= kCoarsestStep) return;  // NaN not
    char text[64];
    snprintf(text, sizeof text, "a step must lie between 1/64 and 64, not %g",
             static_cast<double>(step));
    throw Error(status, before + text);
}

void check_sections(const FlicSections& sections, int status, const std::string& before) {
    for (const Section& section : {sections.icc, sections.exif}) {
        if (section.size > 2 * kMaxMetadata) {
            throw Error(status, before + "its metadata are too large");
        }
    }
    if (sections.alpha.size > kMaxFile) throw Error(status, before + "its alpha is too large");
}

std::vector<uint8_t> pack(const Container& file) {
    const FlicHeader& h = file.header;
    check_size(h.width, h.height, FLIC_BAD_FILE);
    check_step(h.step, FLIC_BAD_FILE);
    if (h.tile) check_tile(h.tile, h.width, h.height);
    check_streams(file);
    const int version = h.step != 1 ? 3 : h.tile ? 2 : 1;
    const FlicSections& s = h.sections;
    std::vector<uint8_t> out;
    append(out, kMagic, sizeof kMagic);
    out.push_back(static_cast<uint8_t>(version));
    out.push_back(static_cast<uint8_t>((h.channels == 1 ? kGray : 0) | (s.alpha.data ? kAlpha : 0) |
                                       (s.icc.data ? kIcc : 0) | (s.exif.data ? kExif : 0)));
    append(out, h.fingerprint, sizeof h.fingerprint);
    append_varint(out, h.width);
    append_varint(out, h.height);
    if (version == 3) {
        uint32_t bits;
        memcpy(&bits, &h.step, sizeof bits);
        append_number(out, bits, 4);
    }
    for (const Section& section : {s.alpha, s.icc, s.exif}) {
        if (section.data) append_section(out, section);
    }
    if (version > 1) append_varint(out, h.tile / kStride);
    for (const Section& stream : file.streams) append_varint(out, stream.size);
    for (const Section& stream : file.streams) append(out, stream.data, stream.size);
    append_number(out, crc32(0, out.data(), out.size()), 4);
    if (out.size() > kMaxFile) throw Error(FLIC_BAD_ARGUMENT, "a file has at most 512 MiB");
    return out;
}

Container unpack(const uint8_t* data, size_t size) {
    if (size > kMaxFile) throw Error(FLIC_BAD_FILE, "larger than any .flic file (512 MiB)");
    Reader reader(data, size);
    Container file = {};
    FlicHeader& h = file.header;
    h.version = begin(reader);
    const uint8_t flags = *reader.take(1);
    memcpy(h.fingerprint, reader.take(sizeof h.fingerprint), sizeof h.fingerprint);
    constexpr uint8_t kKnown = kGray | kAlpha | kIcc | kExif;
    if (flags & ~kKnown) {
        char text[32];
        snprintf(text, sizeof text, "unknown flags 0x%02x", flags & ~kKnown);
        damaged(text);
    }
    h.channels = flags & kGray ? 1 : 3;
    const int64_t width = static_cast<int64_t>(reader.varint());
    const int64_t height = static_cast<int64_t>(reader.varint());
    check_size(width, height, FLIC_BAD_FILE);
    h.width = static_cast<int32_t>(width);
    h.height = static_cast<int32_t>(height);
    h.step = h.version == 3 ? read_step(reader) : 1.0f;
    if (flags & kAlpha) h.sections.alpha = reader.section();
    if (flags & kIcc) h.sections.icc = reader.section();
    if (flags & kExif) h.sections.exif = reader.section();
    check_sections(h.sections, FLIC_BAD_FILE, "the file is damaged: ");
    if (h.version > 1) {
        const int64_t tile = kStride * static_cast<int64_t>(reader.varint());
        if (tile || h.version == 2) check_tile(tile, h.width, h.height);
        h.tile = static_cast<int32_t>(tile);
    }
    const int64_t count = file.grid().size();
    std::vector<uint64_t> lengths;
    for (int64_t i = 0; i < count; ++i) lengths.push_back(reader.varint());
    for (const uint64_t length : lengths) {
        file.streams.push_back({reader.take(length), static_cast<size_t>(length)});
    }
    const size_t end = reader.position();
    const uint32_t file_crc = reader.number(4);
    if (reader.position() != size) {
        damaged(std::to_string(size - reader.position()) + " bytes after its end");
    }
    if (crc32(0, data, end) != file_crc) damaged("its checksum does not match");
    check_streams(file);
    return file;
}

std::vector<uint8_t> pack_stream(const Stream& stream) {
    std::vector<uint8_t> out = {kArithmetic};
    append_number(out, stream.latents_crc, 4);
    out.push_back(static_cast<uint8_t>(stream.checks.size()));
    for (const uint16_t check : stream.checks) append_number(out, check, 2);
    append(out, stream.payload.data, stream.payload.size);
    return out;
}

Stream unpack_stream(const Section& data) {
    const auto early = [&] {
        return Error(FLIC_TRUNCATED,
                     "the stream ends early, after " + std::to_string(data.size) + " bytes");
    };
    if (data.size < kStreamHead) throw early();
    const int arithmetic = data.data[0];
    if (arithmetic > kArithmetic) {
        throw Error(FLIC_UNSUPPORTED_VERSION, "the stream was coded with arithmetic " +
                                                  std::to_string(arithmetic) + "; this flic has " +
                                                  std::to_string(kArithmetic) +
                                                  ": install a newer flic");
    }
    if (arithmetic != kArithmetic) {
        throw Error(FLIC_BAD_FILE,
                    "the stream is damaged: there is no arithmetic " + std::to_string(arithmetic));
    }
    Reader reader(data.data + 1, data.size - 1);
    Stream stream = {reader.number(4), {}, {}};
    const int slices = *reader.take(1);
    if (data.size < kStreamHead + 2 * static_cast<size_t>(slices)) throw early();
    for (int i = 0; i < slices; ++i)
        stream.checks.push_back(static_cast<uint16_t>(reader.number(2)));
    stream.payload = {data.data + 1 + reader.position(), data.size - 1 - reader.position()};
    return stream;
}

}  // namespace flic::codec
