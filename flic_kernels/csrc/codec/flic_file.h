// The .flic file: header, optional sections, entropy-coded streams, checksum (docs/format.md;
// flic/format/container.py and stream.py are its readable twins). Nothing read is trusted.
#pragma once
#include <stdint.h>

#include <string>
#include <vector>

#include "codec/tile_grid.h"
#include "include/flic_kernels.h"

namespace flic::codec {

constexpr int kMaxSide = 65535;               // of a picture, pixels
constexpr int64_t kMaxPixels = 1 << 26;       // in a picture
constexpr size_t kMaxFile = size_t{1} << 29;  // bytes that a reader looks at
constexpr float kFinestStep = 1.0f / 64, kCoarsestStep = 64;

using Section = FlicSection;

// What a file says. Sections and streams lie elsewhere: in the file's bytes, or with its maker.
struct Container {
    FlicHeader header;
    std::vector<Section> streams;  // of the picture, or of its tiles row by row

    Grid grid() const { return Grid(header.height, header.width, header.tile); }
};

// Throw Error where no picture has this size, or no file can carry a step or sections.
void check_size(int64_t width, int64_t height, int status);
void check_step(float step, int status, const std::string& before = "");
void check_sections(const FlicSections& sections, int status, const std::string& before = "");

std::vector<uint8_t> pack(const Container& container);  // the version follows from the fields
Container unpack(const uint8_t* file, size_t size);

// A picture's coded latents, or a tile's.
struct Stream {
    uint32_t latents_crc;          // CRC-32 of z and y
    std::vector<uint16_t> checks;  // over each slice's table indexes and centers
    Section payload;               // the rANS stream
};

std::vector<uint8_t> pack_stream(const Stream& stream);
Stream unpack_stream(const Section& data);

}  // namespace flic::codec
