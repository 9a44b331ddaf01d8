// SHA-256 (FIPS 180-4).
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <array>

namespace flic::codec {

class Sha256 {
  public:
    void update(const void* data, size_t size);
    // Of all that was given so far; ends the object's use.
    std::array<uint8_t, 32> digest();

  private:
    static constexpr size_t kBlock = 64;

    std::array<uint32_t, 8> state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    uint8_t pending_[kBlock];  // the first size_ % kBlock bytes of a block
    uint64_t size_ = 0;
};

}  // namespace flic::codec
