#include "codec/crc32.h"

namespace flic::codec {
namespace {

// of[k][b]: what a byte b does to the remainder when k zero bytes follow it.
struct Tables {
    uint32_t of[8][256];
};

constexpr Tables make_tables() {
    Tables tables{};
    for (uint32_t byte = 0; byte < 256; ++byte) {
        uint32_t remainder = byte;
        for (int bit = 0; bit < 8; ++bit) {
            remainder = remainder >> 1 ^ (remainder & 1 ? 0xedb88320u : 0u);
        }
        tables.of[0][byte] = remainder;
    }
    for (int zeros = 1; zeros < 8; ++zeros) {
        for (int byte = 0; byte < 256; ++byte) {
            const uint32_t before = tables.of[zeros - 1][byte];
            tables.of[zeros][byte] = before >> 8 ^ tables.of[0][before & 255];
        }
    }
    return tables;
}

constexpr Tables kTables = make_tables();

}  // namespace

uint32_t crc32(uint32_t before, const void* data, size_t size) {
    const uint8_t* p = static_cast<const uint8_t*>(data);
    const auto& of = kTables.of;
    uint32_t crc = ~before;
    for (; size >= 8; size -= 8, p += 8) {
        crc ^= p[0] | uint32_t{p[1]} << 8 | uint32_t{p[2]} << 16 | uint32_t{p[3]} << 24;
        crc = of[7][crc & 255] ^ of[6][crc >> 8 & 255] ^ of[5][crc >> 16 & 255] ^ of[4][crc >> 24] ^
              of[3][p[4]] ^ of[2][p[5]] ^ of[1][p[6]] ^ of[0][p[7]];
    }
    for (; size > 0; --size, ++p) crc = crc >> 8 ^ of[0][(crc ^ *p) & 255];
    return ~crc;
}

}  // namespace flic::codec
