// The head of a T-CA layer: one window of one slice.
#pragma once
#include <stddef.h>

#include "rows.h"

namespace flic::cpu {

// w = GroupNorm(u), out = w + gelu(GroupNorm(depthwise 3x3(w))), over the window's positions and the
// slice's channels. Pointers to parameters are to the slice's first channel.
struct EncodingTask {
    int window;            // a side
    int channels;          // of the slice
    ptrdiff_t row, pixel;  // of u: from line to line and from pixel to pixel, in elements
    ptrdiff_t out_pixel;   // of out, whose positions follow each other
    const float *norm1_weight, *norm1_bias;
    const float* conv_weight;  // [9][conv_stride]
    ptrdiff_t conv_stride;
    const float *conv_bias, *norm2_weight, *norm2_bias;
    float eps;
    float* scratch;  // encoding_scratch floats, the first (window + 2)^2 * channels zeros at the border
};

inline size_t encoding_scratch(int window, int channels) {
    return static_cast<size_t>((window + 2) * (window + 2) + window * window) * channels;
}

struct EncodingKernels {
    void (*encode)(const EncodingTask&, const float* u, float* out);
    void (*encode_bfloat16)(const EncodingTask&, const Bfloat16* u, Bfloat16* out);
};

extern const EncodingKernels kScalarEncoding;
#if defined(__x86_64__)
extern const EncodingKernels kAvx2Encoding;
extern const EncodingKernels kAvx512Encoding;
#endif

}  // namespace flic::cpu
