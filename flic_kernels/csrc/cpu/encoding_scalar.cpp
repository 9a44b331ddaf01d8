// The head of a T-CA layer in plain C++.
#define FLIC_LANES_SCALAR
#define FLIC_LOOSE_FMA
#include "encoding_simd.h"

const flic::cpu::EncodingKernels flic::cpu::kScalarEncoding = make_encoding_kernels();
