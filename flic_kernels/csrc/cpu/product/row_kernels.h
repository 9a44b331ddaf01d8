// Kernels on rows that are in cache, between a block's products.
#pragma once
#include <stddef.h>

#include "base/isa.h"
#include "cpu/kernels.h"
#include "cpu/rows.h"

namespace flic::cpu {

struct RowKernels {
    // LayerNorm over the first `channels` values of each row. If `padded`, the rows out have room
    // for whole vectors of 16, whose rest becomes zeros. out may be in.
    void (*layer_norm)(const float* in, ptrdiff_t in_stride, int rows, int channels,
                       const float* weight, const float* bias, float eps, float* out,
                       ptrdiff_t out_stride, bool padded);
    // out = a + b; rows of `channels` values.
    void (*add)(const float* a, ptrdiff_t a_stride, const float* b, ptrdiff_t b_stride, int rows,
                int channels, float* out, ptrdiff_t out_stride);
    // Elementwise, any n; out may be an input.
    void (*square)(const float* x, float* out, ptrdiff_t n);
    void (*square_bfloat16)(const Bfloat16* x, float* out, ptrdiff_t n);
    void (*add_bfloat16)(const Bfloat16* a, const Bfloat16* b, Bfloat16* out, ptrdiff_t n);
    void (*gelu)(const float* x, float* out, ptrdiff_t n);
    void (*leaky_relu)(const float* x, float* out, ptrdiff_t n);
    void (*to_bfloat16)(const float* x, Bfloat16* out, ptrdiff_t n);
};

FLIC_FOR_EACH_ISA(extern const RowKernels rows)

// By the type of the values.
inline void square(const float* x, float* out, ptrdiff_t n) { kernels().rows.square(x, out, n); }
inline void square(const Bfloat16* x, float* out, ptrdiff_t n) {
    kernels().rows.square_bfloat16(x, out, n);
}
inline void add(const float* a, const float* b, float* out, ptrdiff_t n) {
    kernels().rows.add(a, 0, b, 0, 1, static_cast<int>(n), out, 0);
}
inline void add(const Bfloat16* a, const Bfloat16* b, Bfloat16* out, ptrdiff_t n) {
    kernels().rows.add_bfloat16(a, b, out, n);
}

}  // namespace flic::cpu
