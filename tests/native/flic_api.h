// What programs that check flic.h's promises share. They print what does not hold.
#pragma once
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "flic.h"

#define REQUIRE(condition)                                                     \
    do {                                                                       \
        if (condition) break;                                                  \
        std::printf("line %d: %s (%s)\n", __LINE__, #condition, flic_error()); \
        std::exit(1);                                                          \
    } while (0)
// A call that fails in this way, with a text of one line.
#define FAILS(status, call)                        \
    do {                                           \
        REQUIRE((call) == (status));               \
        REQUIRE(std::strlen(flic_error()) > 5);    \
        REQUIRE(!std::strchr(flic_error(), '\n')); \
    } while (0)
#define BAD(call) FAILS(FLIC_BAD_ARGUMENT, call)
// One that succeeds, and says nothing.
#define FINE(call)                  \
    do {                            \
        REQUIRE((call) == FLIC_OK); \
        REQUIRE(!*flic_error());    \
    } while (0)

using Bytes = std::vector<uint8_t>;
using Clock = std::chrono::steady_clock;

inline FlicModel* model;
inline const char* path;

inline Bytes read(const char* name) {
    std::ifstream file(name, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

struct Picture {
    Bytes samples;
    FlicImage image;

    // Waves and some noise. gap: bytes behind each row, of no account.
    Picture(int width, int height, int channels = 3, int gap = 0)
        : samples(static_cast<size_t>(width * channels + gap) * height, 0xEE),
          image{samples.data(), gap ? width * channels + gap : 0, width, height, channels} {
        uint32_t state = 1;
        for (int y = 0; y < height; ++y) {
            uint8_t* to = samples.data() + static_cast<size_t>(y) * (width * channels + gap);
            for (int i = 0; i < width * channels; ++i) {
                state = state * 1664525 + 1013904223;
                const double wave = 100 + 60 * std::sin(y * 0.05) + 40 * std::cos(i * 0.03);
                to[i] = static_cast<uint8_t>(wave + (state >> 27));
            }
        }
    }
};

inline FlicOptions options(int threads) {
    FlicOptions made = {};
    made.threads = threads;
    return made;
}

inline Bytes file_of(FlicEncoder* encoder, size_t size) {
    Bytes file(size);
    FINE(flic_encoder_file(encoder, file.data(), size));
    return file;
}

inline Bytes coded(FlicEncoder* encoder, float step, const FlicOptions* given = nullptr,
                   const FlicSections* sections = nullptr) {
    size_t size = 0;
    FINE(flic_encoder_code(encoder, step, sections, given, &size));
    return file_of(encoder, size);
}

inline FlicEncoder* encoder_of(const Picture& picture, int tile = FLIC_TILE_AUTO, int again = 0) {
    FlicEncoder* encoder = nullptr;
    FINE(flic_encoder_new(model, &picture.image, tile, again, &encoder));
    return encoder;
}

inline Bytes encoded(const Picture& picture, int tile = FLIC_TILE_AUTO, float step = 1,
                     const FlicOptions* given = nullptr, const FlicSections* sections = nullptr) {
    FlicEncoder* const encoder = encoder_of(picture, tile);
    const Bytes file = coded(encoder, step, given, sections);
    flic_encoder_free(encoder);
    return file;
}

inline FlicHeader header_of(const Bytes& file) {
    FlicHeader header = {};
    FINE(flic_header(file.data(), file.size(), &header));
    return header;
}

inline Bytes decoded(const Bytes& file, const FlicOptions* given = nullptr,
                     const FlicRegion* region = nullptr) {
    const FlicHeader header = header_of(file);
    const int width = region ? region->width : header.width;
    const int height = region ? region->height : header.height;
    Bytes samples(static_cast<size_t>(width) * height * header.channels);
    const FlicImage out = {samples.data(), 0, width, height, header.channels};
    FINE(flic_decode(model, file.data(), file.size(), region, given, &out));
    return samples;
}

inline bool near(const Bytes& a, const Bytes& b) {
    double sum = 0;
    for (size_t i = 0; i < a.size(); ++i) sum += std::abs(a[i] - b[i]);
    return a.size() == b.size() && sum / static_cast<double>(a.size()) < 30;
}

// Of the checks, by their names, the one that is asked for.
inline int check(int argc, char** argv, const std::map<std::string, void (*)()>& checks) {
    if (argc < 3 || !checks.count(argv[1])) return 2;
    path = argv[2];
    FINE(flic_model_open(path, nullptr, &model));
    checks.at(argv[1])();
    flic_model_close(model);
    return 0;
}
