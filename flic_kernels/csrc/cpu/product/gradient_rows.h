// Kernels on rows for backward passes, in float32.
#pragma once
#include <stddef.h>

#include "base/isa.h"
#include "cpu/kernels.h"
#include "cpu/rows.h"

namespace flic::cpu {

struct GradientRows {
    // grad * gelu'(x), elementwise; out may be an input.
    void (*gelu)(const float* x, const float* grad, float* out, ptrdiff_t n);
    // Of LayerNorm over rows of `channels` values: dx from x and the gradient of the result. Adds
    // to dweight and dbias [channels]. Rows lie side by side; dx may be grad.
    void (*layer_norm)(const float* x, const float* grad, int rows, int channels,
                       const float* weight, float eps, float* dx, float* dweight, float* dbias);
    // Of x / sqrt(norm), or x * sqrt(norm) if inverse, elementwise: the gradient of x with norm
    // kept into direct, that of norm into dnorm, which may be norm.
    void (*gdn)(const float* x, const float* grad, const float* norm, bool inverse, float* direct,
                float* dnorm, ptrdiff_t n);
    // direct + 2 x dsquares, elementwise; out may be an input.
    void (*add_squares)(const float* direct, const float* x, const float* dsquares, float* out,
                        ptrdiff_t n);
    // sums[c] += the sum of column c.
    void (*add_columns)(const float* in, ptrdiff_t stride, int rows, int columns, float* sums);
    // sums[o][p * length + c] += the sum over rows of left[row][o] * right[row][part p][c].
    void (*add_outer)(int rows, const float* left, ptrdiff_t left_stride, int outputs,
                      const Rows<const float>& right, int length, float* sums);
    // grad, or 0.01 grad where out, the leaky ReLU's result, is not positive; elementwise.
    void (*leaky)(const float* grad, const float* out, float* to, ptrdiff_t n);
    void (*leaky_bfloat16)(const Bfloat16* grad, const Bfloat16* out, Bfloat16* to, ptrdiff_t n);
    void (*widen)(const Bfloat16* in, float* out, ptrdiff_t n);
};

FLIC_FOR_EACH_ISA(extern const GradientRows gradient_rows)

}  // namespace flic::cpu
