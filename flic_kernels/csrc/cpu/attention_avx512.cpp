// Window attention for AVX-512.
#if defined(__x86_64__)
#define FLIC_LOOSE_FMA
#include "attention_table.h"

const flic::cpu::AttentionKernels flic::cpu::kAttentionAvx512 = make_attention_kernels();
#endif
