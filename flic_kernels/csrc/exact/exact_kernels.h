// What the exact engine needs from an instruction set: one table of functions on raw pointers.
//
// Activations are channels-last, a pixel's channels padded to a multiple of 16 ("padded"). Nothing
// here allocates, locks or knows about threads. docs/exact.md states the order of every operation.
#pragma once
#include <stdint.h>

#include "base/isa.h"
#include "exact/packed_product.h"

namespace flic::exact {

constexpr int kHeads = 16;      // T-CA: channel = 16 * token + head, so the heads are the lanes
constexpr int kWindow = 8;      // T-CA: 8x8 windows
constexpr int kPositions = 64;  // of a window
constexpr int kHalo = kWindow + 2;
constexpr int kTile = 4;  // hyper transforms: 4x4 modulation windows, attention at most 4x4
constexpr int kTileTokens = 16;

// The mean of a set of values and the sum of squared differences from it.
struct Moments {
    float mean, m2;
};

// An affine normalisation: (x - mean) * rstd * weight[channel] + bias[channel].
struct Normalisation {
    float mean, rstd;
    const float* weight;
    const float* bias;
};

// Causal attention of one slice's tokens over its own and the earlier slices', in one window.
struct TokenAttention {
    const float* query;             // [64][inner]
    const float* const* key_value;  // for each slice 0..slices-1: [64][2 * inner], keys then values
    int slices;                     // the query's own slice is the last
    int inner;                      // 16 * tokens of a slice
    float scale;
    float* scores;  // scratch: 4 * slices * inner
    float* out;     // [64][inner]
};

// Window attention of a FAT block with window 2: windows 4x4, 1x1, 1x4 and 4x1 on a quarter of the
// channels each.
struct WindowAttention {
    const float* qkv;  // tokens tile by tile, [height * width][3 * channels padded]
    const float*
        bias[4];  // for each branch [(2 Wh - 1)(2 Ww - 1)][heads / 4 padded to a multiple of 16]
    int height, width;  // multiples of 4
    int channels, heads;
    bool shifted;
    float scale;
    float* scratch;  // 4 * 16 * 16 * (channels / heads)
    float* out;      // tokens tile by tile, [height * width][channels padded]
};

struct Kernels {
    const char* name;
    int panel_vectors;  // how weights are packed

    void (*product)(const PackedProduct&, const ptrdiff_t* tap_offset, int rows,
                    const float* const* in, float* const* out);

    // Elementwise, n a multiple of 16; out may be an input.
    void (*exp_nonpositive)(const float* x, float* out, ptrdiff_t n);
    void (*gelu)(const float* x, float* out, ptrdiff_t n);
    void (*leaky_relu)(const float* x, float* out, ptrdiff_t n);
    void (*square)(const float* x, float* out, ptrdiff_t n);
    void (*add)(const float* a, const float* b, float* out, ptrdiff_t n);
    // x * sqrt(norm) + identity
    void (*inverse_gdn)(const float* x, const float* norm, const float* identity, float* out,
                        ptrdiff_t n);

    // The most multiply-adds that the processor does: returns how many were done on `state`, 16
    // floats.
    double (*fma_loop)(int64_t iterations, float* state);

    // T-CA, on one window of one slice.
    Moments (*window_moments)(const float* x, int inner);
    // [64][inner] into the inside of a [10][10][inner] window with a border of zeros
    void (*normalise_into_halo)(const float* x, int inner, const Normalisation&, float* halo);
    void (*normalise)(const float* x, int inner, const Normalisation&, float* out);
    // weights [9][inner]
    void (*depthwise)(const float* halo, int inner, const float* weights, const float* bias,
                      float* out);
    // halo's inside + gelu(normalised x)
    void (*normalise_gelu_add)(const float* x, int inner, const Normalisation&, const float* halo,
                               float* out);
    void (*token_attention)(const TokenAttention&);

    // FAT blocks of the hyper transforms. Tokens are `channels`, padded to a multiple of 16, apart.
    void (*layer_norm)(const float* x, int tokens, int channels, const float* weight,
                       const float* bias, float* out);
    void (*window_attention)(const WindowAttention&, int tile);  // the queries of one 4x4 tile
    // target += circular convolution of a 4x4 tile with kernel [16][channels], for `tiles` tiles;
    // channels padded
    void (*modulate_add)(const float* x, int tiles, int channels, const float* kernel,
                         float* target);
};

FLIC_FOR_EACH_ISA(extern const Kernels kernels)

// 1 / sqrt(variance + 1e-5), the variance being m2 / count.
inline float reciprocal_deviation(float m2, float count) {
    return 1.0f / __builtin_sqrtf(m2 / count + 1e-5f);
}

}  // namespace flic::exact
