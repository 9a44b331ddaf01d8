// CRC-32 as zlib, PNG and ZIP have it (ISO 3309, reflected polynomial 0xedb88320).
#pragma once
#include <stddef.h>
#include <stdint.h>

namespace flic::codec {

// Of what `before` is the CRC-32 of (0: of nothing), followed by these bytes.
uint32_t crc32(uint32_t before, const void* data, size_t size);

}  // namespace flic::codec
