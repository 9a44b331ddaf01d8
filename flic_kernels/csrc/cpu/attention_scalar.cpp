// Window attention in plain C++.
#define FLIC_LANES_SCALAR
#define FLIC_LOOSE_FMA
#include "attention_table.h"

const flic::cpu::AttentionKernels flic::cpu::kAttentionScalar = make_attention_kernels();
