// Attention among T-CA's slices, one group of sixteen heads at a time: what an instruction set
// provides.
//
// Lanes are heads: 16 of one window, or those of several windows where heads are fewer. A token is
// one channel of a head and its vector the values at a window's positions; a token sees the tokens
// of its own and of earlier slices.
#pragma once
#include <stdint.h>

#include "base/isa.h"
#include "cpu/element.h"

namespace flic::cpu {

// q, k, v, out and their gradients are [windows][positions][channels], channel = heads * token +
// head; lse is [windows][channels] and counts in base 2.
struct SliceAttention {
    const void *q, *k, *v;
    void* out;
    float* lse;        // null, or written forward and read backward
    const void* grad;  // of out; this and the next three backward only
    void *dq, *dk, *dv;
    Element element;
    int64_t windows;
    int positions, heads, slices;
    int tokens;  // of all slices

    int channels() const { return heads * tokens; }
    int slice() const { return tokens / slices; }
    // Lanes of one window, and windows that share a group.
    int lanes() const { return heads < 16 ? heads : 16; }
    int together() const { return 16 / lanes(); }
    int groups_of_window() const { return (heads + 15) / 16; }
    int64_t groups() const { return (windows + together() - 1) / together() * groups_of_window(); }
};

// Floats of scratch for one group, which begins at a cache line.
ptrdiff_t slice_attention_scratch(const SliceAttention& a);
ptrdiff_t slice_attention_backward_scratch(const SliceAttention& a);

struct SliceKernels {
    void (*attend)(const SliceAttention&, int64_t group, float* scratch);
    void (*attend_backward)(const SliceAttention&, int64_t group, float* scratch);
};

FLIC_FOR_EACH_ISA(extern const SliceKernels slice_attention)

}  // namespace flic::cpu
