// The table of functions, filled for the instruction set of the including file (attention_*.cpp).
#pragma once
#include "attention_backward.h"
#include "attention_forward.h"

namespace {

constexpr flic::cpu::AttentionKernels make_attention_kernels() {
    flic::cpu::AttentionKernels kernels = {};
    kernels.attend = attend;
    kernels.attend_backward = attend_backward;
    return kernels;
}

}  // namespace
