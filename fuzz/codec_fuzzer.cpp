// libFuzzer target over flic.h, with a very small model (fuzz/codec_seeds.py) that FLIC_FUZZ_MODEL
// names. An input that begins like a .flic file is read and decoded as one. Its checksum and
// fingerprint are made right, so that what lies behind them is reached; FLIC_FUZZED does so with
// the checks of a stream's integers. Any other input is the header of a model's file, and after it
// numbers to change in the small model's weights; what opens codes a picture.

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "codec/crc32.h"
#include "include/flic.h"

namespace {

constexpr size_t kFingerprint = 6, kMagic = 4;  // where it lies in a file; bytes
constexpr int64_t kMostPixels = 1 << 18;
const FlicOptions kOptions = {1, 0, 1 << 26, nullptr, nullptr, nullptr};

void require(bool condition, const char* what) {
    if (condition) return;
    std::fprintf(stderr, "failed: %s: %s\n", what, flic_error());
    std::abort();
}

// Every failure has a text, and success none.
bool succeeded(int status) {
    require((status == FLIC_OK) == !*flic_error(), "a text for failures alone");
    require(status >= FLIC_OK && status <= FLIC_CORRUPT_PULLS, "a known status");
    return status == FLIC_OK;
}

struct Picture {
    std::vector<uint8_t> pixels;
    FlicImage image;

    Picture(int width, int height, int channels)
        : pixels(static_cast<size_t>(width) * height * channels, 90),
          image{pixels.data(), 0, width, height, channels} {}
};

void decode(FlicModel* model, const std::vector<uint8_t>& file) {
    FlicHeader header;
    if (!succeeded(flic_header(file.data(), file.size(), &header))) return;
    if (int64_t{header.width} * header.height > kMostPixels) return;
    const bool intact = succeeded(flic_verify(model, file.data(), file.size(), &kOptions));
    Picture whole(header.width, header.height, header.channels);
    const bool drawn =
        succeeded(flic_decode(model, file.data(), file.size(), nullptr, &kOptions, &whole.image));
    require(intact || !drawn, "a damaged file is not drawn");
    const FlicRegion corner = {header.width - 1, header.height - 1, 1, 1};
    Picture part(1, 1, header.channels);
    const bool corner_drawn =
        succeeded(flic_decode(model, file.data(), file.size(), &corner, &kOptions, &part.image));
    if (drawn) {
        require(corner_drawn &&
                    !std::memcmp(part.pixels.data(),
                                 whole.pixels.data() + whole.pixels.size() - header.channels,
                                 header.channels),
                "a region is a part of the picture");
    }
}

FlicModel* decoder() {
    static FlicModel* const model = [] {
        FlicModel* made = nullptr;
        const char* const path = std::getenv("FLIC_FUZZ_MODEL");
        require(path && flic_model_open(path, nullptr, &made) == FLIC_OK, "FLIC_FUZZ_MODEL");
        return made;
    }();
    return model;
}

void decode_mended(const uint8_t* data, size_t size) {
    std::vector<uint8_t> file(data, data + size);
    FlicHeader header;
    succeeded(flic_header(file.data(), file.size(), &header));
    FlicModelInfo info;
    require(flic_model_info(decoder(), &info) == FLIC_OK, "info");
    if (size < kFingerprint + sizeof info.fingerprint + 4) return;
    std::memcpy(file.data() + kFingerprint, info.fingerprint, sizeof info.fingerprint);
    const uint32_t crc = flic::codec::crc32(0, file.data(), size - 4);
    for (size_t i = 0; i < 4; ++i) file[size - 4 + i] = static_cast<uint8_t>(crc >> (8 * i));
    decode(decoder(), file);
}

// The small model's file behind its header.
const std::vector<uint8_t>& weights() {
    static const std::vector<uint8_t> read = [] {
        std::vector<uint8_t> bytes(1 << 20);
        FILE* const file = std::fopen(std::getenv("FLIC_FUZZ_MODEL"), "rb");
        bytes.resize(std::fread(bytes.data(), 1, bytes.size(), file));
        std::fclose(file);
        uint64_t header;
        std::memcpy(&header, bytes.data(), sizeof header);
        bytes.erase(bytes.begin(), bytes.begin() + 8 + static_cast<ptrdiff_t>(header));
        return bytes;
    }();
    return read;
}

// A model's file of an input.
std::vector<uint8_t> model_file(const uint8_t* data, size_t size) {
    uint64_t header;
    if (size < 8) return {data, data + size};
    std::memcpy(&header, data, sizeof header);
    if (header > size - 8) return {data, data + size};
    std::vector<uint8_t> file(data, data + 8 + header);
    file.insert(file.end(), weights().begin(), weights().end());
    for (size_t at = 8 + header; at + 8 <= size; at += 8) {
        uint32_t where;
        std::memcpy(&where, data + at, sizeof where);
        std::memcpy(file.data() + 8 + header + where % (weights().size() / 4) * 4, data + at + 4,
                    4);
    }
    return file;
}

void open(const uint8_t* data, size_t size) {
    const std::vector<uint8_t> contents = model_file(data, size);
    FlicModel* model = nullptr;
    if (!succeeded(flic_model_open_memory(contents.data(), contents.size(), &kOptions, &model))) {
        return;
    }
    const Picture picture(3, 5, 3);
    FlicEncoder* encoder = nullptr;
    require(flic_encoder_new(model, &picture.image, FLIC_TILE_AUTO, 0, &encoder) == FLIC_OK,
            "an encoder");
    size_t bytes = 0;
    if (succeeded(flic_encoder_code(encoder, 1, nullptr, &kOptions, &bytes))) {
        std::vector<uint8_t> file(bytes);
        require(succeeded(flic_encoder_file(encoder, file.data(), bytes)), "its file");
        require(succeeded(flic_verify(model, file.data(), bytes, &kOptions)), "verifies");
        decode(model, file);
    }
    flic_encoder_free(encoder);
    flic_model_close(model);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size >= kMagic && !std::memcmp(data, "FLIC", kMagic)) {
        decode_mended(data, size);
    } else {
        open(data, size);
    }
    return 0;
}
