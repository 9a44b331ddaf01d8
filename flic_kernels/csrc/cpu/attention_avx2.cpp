// Window attention for AVX2 and FMA.
#if defined(__x86_64__)
#define FLIC_LOOSE_FMA
#include "attention_table.h"

const flic::cpu::AttentionKernels flic::cpu::kAttentionAvx2 = make_attention_kernels();
#endif
