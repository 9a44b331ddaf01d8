// float32 values of float16 and bfloat16 ones, exactly; a NaN keeps its bits.
#pragma once
#include <stddef.h>
#include <stdint.h>

namespace flic::codec {

// `from`: little-endian, aligned to nothing.
void widen_float16(const uint8_t* from, size_t count, float* to);
void widen_bfloat16(const uint8_t* from, size_t count, float* to);

}  // namespace flic::codec
