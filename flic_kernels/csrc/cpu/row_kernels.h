// Kernels on rows that are in cache, between a block's products. A row's values beyond its channels,
// up to the next multiple of 16, are zeros where it says "padded"; otherwise they are not touched.
#pragma once
#include <stddef.h>

namespace flic::cpu {

struct RowKernels {
    // LayerNorm over the first `channels` values of each row. Rows in hold `channels` values, rows
    // out are padded if `padded`; out may be in.
    void (*layer_norm)(const float* in, ptrdiff_t in_stride, int rows, int channels,
                       const float* weight, const float* bias, float eps, float* out,
                       ptrdiff_t out_stride, bool padded);
    // out = a + b; rows of `channels` values.
    void (*add)(const float* a, ptrdiff_t a_stride, const float* b, ptrdiff_t b_stride, int rows,
                int channels, float* out, ptrdiff_t out_stride);
    // Elementwise, any n; out may be x.
    void (*square)(const float* x, float* out, ptrdiff_t n);
    void (*gelu)(const float* x, float* out, ptrdiff_t n);
    void (*leaky_relu)(const float* x, float* out, ptrdiff_t n);
};

extern const RowKernels kScalarRows;
#if defined(__x86_64__)
extern const RowKernels kAvx2Rows;
extern const RowKernels kAvx512Rows;
#endif

// The table for the instruction set in use.
const RowKernels& row_kernels();

}  // namespace flic::cpu
