// Slice attention for AVX-512.
#if defined(__x86_64__)
#define FLIC_LOOSE_FMA
#include "slices_simd.h"

const flic::cpu::SliceKernels flic::cpu::kSlicesAvx512 = make_slice_kernels();
#endif
