// x + amount * y. A toy: it shares no work among threads.
#include <stdint.h>
#include <string.h>

#include "cpu/guarded.h"

namespace flic::cpu {
namespace {

float widened(float value) { return value; }
float widened(Bfloat16 value) {
    const uint32_t bits = static_cast<uint32_t>(value) << 16;
    float wide;
    memcpy(&wide, &bits, sizeof wide);
    return wide;
}

void store(float value, float* to) { *to = value; }
void store(float value, Bfloat16* to) {  // to the nearest, ties to even
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    *to = static_cast<Bfloat16>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

template <class T>
void mix(const T* x, const T* y, int64_t count, float amount, T* out) {
    for (int64_t i = 0; i < count; ++i) store(widened(x[i]) + amount * widened(y[i]), out + i);
}

}  // namespace
}  // namespace flic::cpu

// x, y and out [count], of one element type.
FLIC_API int flic_mix(const void* x, const void* y, int element, int64_t count, float amount,
                      void* out) {
    if (!x || !y || !out || count < 0) return FLIC_BAD_ARGUMENT;
    return flic::cpu::guarded(element, [&](auto type) {
        using T = decltype(type);
        flic::cpu::mix(static_cast<const T*>(x), static_cast<const T*>(y), count, amount,
                       static_cast<T*>(out));
    });
}
