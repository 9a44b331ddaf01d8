// The exact engine's kernels for AVX-512.
#if defined(__x86_64__)
#include "kernel_table.h"

const flic::exact::Kernels flic::exact::kAvx512Kernels = make_kernels();
#endif
