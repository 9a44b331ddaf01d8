// The head of a T-CA layer for AVX-512.
#if defined(__x86_64__)
#define FLIC_LOOSE_FMA
#include "encoding_simd.h"

const flic::cpu::EncodingKernels flic::cpu::kAvx512Encoding = make_encoding_kernels();
#endif
