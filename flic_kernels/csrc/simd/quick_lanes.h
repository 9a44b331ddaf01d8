// The lanes of the float kernels (cpu/), which need not give the same bits everywhere: where plain
// C++ has no fused multiply-add they round twice.
#pragma once
#ifdef FLIC_LANES_NAME
#error "simd/lanes.h came first: include no header of the exact engine before those of cpu/"
#endif
#define FLIC_LOOSE_FMA

#include "simd/lanes.h"
