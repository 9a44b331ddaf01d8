// What a whole FAT block is given, forward and backward.
#pragma once
#include <stdint.h>

#include "cpu/element.h"
#include "cpu/window_attention/window_attention.h"

namespace flic::cpu {

// Of the C interface; flic_kernels/cpu/fat_block.py fills the same one.
struct FATShape {
    int32_t batch, height, width, channels, heads, window, modulation, shifted;
    float eps;
};

// The parameters, in the order of FATParameters in flic_kernels/ops/fat_block.py. The products'
// weights have the type of x, the others are float32.
struct FATParameters {
    const void* conv1_1_weight;
    const float *conv1_1_bias, *norm1_weight, *norm1_bias;
    const void* qkv_weight;
    const float* tables[kBranches];
    const void* proj_weight;
    const float *proj_bias, *norm2_weight, *norm2_bias;
    const void* expand_weight;
    const float* expand_bias;
    const void* contract_weight;
    const float *contract_bias, *complex_weight;
    const void* conv1_2_weight;
    const float* conv1_2_bias;
};

// Where the parameters' gradients go, in the same order.
struct FATGradients {
    float *conv1_1_weight, *conv1_1_bias, *norm1_weight, *norm1_bias, *qkv_weight;
    float* tables[kBranches];
    float *proj_weight, *proj_bias, *norm2_weight, *norm2_bias, *expand_weight, *expand_bias;
    float *contract_weight, *contract_bias, *complex_weight, *conv1_2_weight, *conv1_2_bias;
};

inline int floor_div(int a, int b) { return a >= 0 ? a / b : -((b - 1 - a) / b); }
inline int wrapped(int a, int n) { return a - floor_div(a, n) * n; }

// Square tiles of an image of tokens, counted row after row of tiles.
struct Tiles {
    int side, across, width;  // of a tile, in tokens; tiles and tokens of a row

    int tokens() const { return side * side; }

    // Pointers to the tokens of tiles [first, last), tile after tile, of an image that has `down`
    // rows of tiles and repeats itself above and below.
    template <class T>
    void find(int first, int last, T* image, ptrdiff_t stride, int down, T** pointers) const {
        for (int tile = first; tile < last; ++tile) {
            const int row = floor_div(tile, across), column = tile - row * across;
            T* const start = image + (static_cast<ptrdiff_t>(wrapped(row, down)) * width + column) *
                                         side * stride;
            for (int y = 0; y < side; ++y) {
                for (int x = 0; x < side; ++x) {
                    *pointers++ = start + (static_cast<ptrdiff_t>(y) * width + x) * stride;
                }
            }
        }
    }
};

// To which a plain block is local.
inline Tiles fat_tiles(const FATShape& s) {
    const int side = 2 * s.window > s.modulation ? 2 * s.window : s.modulation;
    return {side, s.width / side, s.width};
}

template <class T>
constexpr Element kElement = sizeof(T) == 2 ? Element::bfloat16 : Element::float32;

}  // namespace flic::cpu
