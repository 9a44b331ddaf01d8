// A product or 3x3 convolution with its weights packed for the register tile, which
// exact_product.h runs.
#pragma once
#include <stddef.h>

namespace flic::exact {

// out[n] = bias[n] + sum over k of in[k] * weight[k][n], k = tap * channels + channel.
//
// `weights` holds panels of panel_vectors * 16 columns (the last one may be narrower), each
// [k][column].
struct PackedProduct {
    int taps;      // 1, or 9 for a 3x3 convolution (row by row)
    int channels;  // inner dimension of one tap
    int columns;   // multiple of 16; columns beyond the real ones have zero weights and bias
    const float* weights;
    const float* bias;  // may be null: zero
};

// Where column n of row k stands in `weights`.
inline size_t packed_index(const PackedProduct& p, int panel_vectors, size_t k, int n) {
    const int panel_columns = 16 * panel_vectors;
    const int first = n / panel_columns * panel_columns;
    const int width = p.columns - first < panel_columns ? p.columns - first : panel_columns;
    const size_t depth = static_cast<size_t>(p.taps) * p.channels;
    return first * depth + k * width + (n - first);
}

}  // namespace flic::exact
