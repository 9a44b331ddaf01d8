// Elementwise loops with a ragged end, for the instruction set of the including file.
#pragma once
#include "simd/typed.h"

namespace {

// step(i, n) for every run of n <= 16 elements from i on; n is a constant but in the last one.
template <class Step>
FLIC_INLINE void each_run(ptrdiff_t count, Step step) {
    ptrdiff_t i = 0;
    for (; i + kLanes <= count; i += kLanes) step(i, kLanes);
    if (i < count) step(i, static_cast<int>(count - i));
}

template <class T>
FLIC_INLINE Lanes load_run(const T* p, int n) {
    return n == kLanes ? load(p) : load_first(p, n);
}
template <class T>
FLIC_INLINE void store_run(T* p, const Lanes& a, int n) {
    n == kLanes ? store(p, a) : store_first(p, a, n);
}

}  // namespace
