// Slice attention in plain C++.
#define FLIC_LANES_SCALAR
#define FLIC_LOOSE_FMA
#include "slices_simd.h"

const flic::cpu::SliceKernels flic::cpu::kSlicesScalar = make_slice_kernels();
