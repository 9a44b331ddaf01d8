// Frequency modulation for AVX2 and FMA.
#if defined(__x86_64__)
#define FLIC_LOOSE_FMA
#include "modulation_simd.h"

const flic::cpu::ModulationKernels flic::cpu::kModulationAvx2 = make_modulation_kernels();
#endif
