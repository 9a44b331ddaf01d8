// Frequency modulation in plain C++.
#define FLIC_LANES_SCALAR
#define FLIC_LOOSE_FMA
#include "modulation_simd.h"

const flic::cpu::ModulationKernels flic::cpu::kModulationScalar = make_modulation_kernels();
