// Around the C functions of the CPU kernels: the element's type, and exceptions turned into
// statuses.
#pragma once
#include <new>

#include "cpu/element.h"
#include "cpu/rows.h"
#include "include/flic_kernels.h"

namespace flic::cpu {

// body(T()) for the type of the element.
template <class Body>
int guarded(int element, const Body& body) {
    try {
        if (static_cast<Element>(element) == Element::float32) {
            body(float());
        } else {
            body(Bfloat16());
        }
        return FLIC_OK;
    } catch (const std::bad_alloc&) {
        return FLIC_OUT_OF_MEMORY;
    }
}

}  // namespace flic::cpu
