// Frequency modulation for AVX-512.
#if defined(__x86_64__)
#define FLIC_LOOSE_FMA
#include "modulation_simd.h"

const flic::cpu::ModulationKernels flic::cpu::kModulationAvx512 = make_modulation_kernels();
#endif
