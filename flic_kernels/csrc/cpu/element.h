// The types of the tensors that the CPU kernels read and write; they compute in float32.
#pragma once
#include <stddef.h>

namespace flic::cpu {

enum class Element : int { float32 = 0, bfloat16 = 1 };

inline ptrdiff_t element_size(Element element) { return element == Element::float32 ? 4 : 2; }

inline const void* advance(const void* data, Element element, ptrdiff_t count) {
    return static_cast<const char*>(data) + count * element_size(element);
}
inline void* advance(void* data, Element element, ptrdiff_t count) {
    return static_cast<char*>(data) + count * element_size(element);
}

}  // namespace flic::cpu
