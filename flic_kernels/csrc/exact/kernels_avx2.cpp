// The exact engine's kernels for AVX2 and FMA.
#if defined(__x86_64__)
#include "kernel_table.h"

const flic::exact::Kernels flic::exact::kAvx2Kernels = make_kernels();
#endif
