// The head of a T-CA layer: one window of one slice.
#pragma once
#include <stddef.h>

#include "base/isa.h"
#include "cpu/rows.h"

namespace flic::cpu {

// w = GroupNorm(u), out = w + gelu(GroupNorm(depthwise 3x3(w))), over the window's positions and
// the slice's channels. Pointers to parameters are to the slice's first channel.
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
    float* scratch;  // encoding_scratch or encoding_backward_scratch zeros, left so at the borders
};

// Floats for a window with a border of zeros and one without, once and twice.
inline size_t encoding_scratch(int window, int channels) {
    return static_cast<size_t>((window + 2) * (window + 2) + window * window) * channels;
}
inline size_t encoding_backward_scratch(int window, int channels) {
    return 2 * encoding_scratch(window, channels);
}

// Where the parameters' gradients are summed, laid out as the parameters.
struct EncodingSums {
    float *norm1_weight, *norm1_bias, *conv_weight, *conv_bias, *norm2_weight, *norm2_bias;
};

struct EncodingKernels {
    void (*encode)(const EncodingTask&, const float* u, float* out);
    void (*encode_bfloat16)(const EncodingTask&, const Bfloat16* u, Bfloat16* out);
    // du, laid out as u, from grad, laid out as the result; adds to the sums.
    void (*backward)(const EncodingTask&, const float* u, const float* grad, float* du,
                     const EncodingSums&);
    void (*backward_bfloat16)(const EncodingTask&, const Bfloat16* u, const Bfloat16* grad,
                              Bfloat16* du, const EncodingSums&);
};

FLIC_FOR_EACH_ISA(extern const EncodingKernels positional_encoding)

}  // namespace flic::cpu
