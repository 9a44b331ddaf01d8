// Slice attention for AVX2 and FMA.
#if defined(__x86_64__)
#define FLIC_LOOSE_FMA
#include "slices_simd.h"

const flic::cpu::SliceKernels flic::cpu::kSlicesAvx2 = make_slice_kernels();
#endif
