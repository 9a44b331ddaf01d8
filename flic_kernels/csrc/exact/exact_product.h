// The register-tiled product and 3x3 convolution, for the instruction set of the including file.
//
// Each output is a chain of fma over k = tap * channels + channel, ascending, restarted at every
// multiple of 256; the first chain starts from the bias, the others from +0, and the partial sums
// are added ascending. Rows are given by pointers, so a 1x1 product, a convolution over an image
// with a halo, and any scatter of the outputs are the same code.
#pragma once
#include "exact/exact_tiles.h"
#include "exact/packed_product.h"

namespace {

constexpr int kChain = 256;

// One tile of ROWS x (16 * VECTORS) outputs over k in [begin, end).
template <int ROWS, int VECTORS>
FLIC_INLINE void product_tile(const flic::exact::PackedProduct& p, const ptrdiff_t* tap_offset,
                              int begin, int end, const float* weights, const float* bias,
                              const float* const* in, float* const* out, int column) {
    Lanes sum[ROWS][VECTORS];
    FLIC_UNROLL for (int i = 0; i < ROWS; ++i) {
        FLIC_UNROLL for (int j = 0; j < VECTORS; ++j) {
            sum[i][j] = begin == 0 && bias ? Lanes::load(bias + kLanes * j) : Lanes::set(0.0f);
        }
    }
    for (int k = begin; k < end;) {  // a run of channels within one tap
        const int tap = k / p.channels;
        const int channel = k - tap * p.channels;
        const int run = end - k < p.channels - channel ? end - k : p.channels - channel;
        const float* row[ROWS];
        FLIC_UNROLL for (int i = 0; i < ROWS; ++i) row[i] = in[i] + tap_offset[tap] + channel;
        for (ptrdiff_t c = 0; c < run; ++c) {
            Lanes w[VECTORS];
            FLIC_UNROLL for (int j = 0; j < VECTORS; ++j) w[j] = Lanes::load(weights + kLanes * j);
            weights += kLanes * VECTORS;
            FLIC_UNROLL for (int i = 0; i < ROWS; ++i) {
                const Lanes x = Lanes::set(row[i][c]);
                FLIC_UNROLL for (int j = 0; j < VECTORS; ++j) {
                    sum[i][j] = Lanes::fma(x, w[j], sum[i][j]);
                }
            }
        }
        k += run;
    }
    FLIC_UNROLL for (int i = 0; i < ROWS; ++i) {
        FLIC_UNROLL for (int j = 0; j < VECTORS; ++j) {
            float* const target = out[i] + column + kLanes * j;
            if (begin == 0) {
                sum[i][j].store(target);
            } else {
                Lanes::add(Lanes::load(target), sum[i][j]).store(target);
            }
        }
    }
}

// The last rows, fewer than a full tile.
template <int ROWS, int VECTORS, class... Arguments>
FLIC_INLINE void product_rest(int rows, const Arguments&... arguments) {
    if constexpr (ROWS > 0) {
        if (rows == ROWS) {
            product_tile<ROWS, VECTORS>(arguments...);
        } else {
            product_rest<ROWS - 1, VECTORS>(rows, arguments...);
        }
    }
}

// One panel of columns, all rows. A panel's 256 x 64 weights stay in cache while the rows pass.
template <int VECTORS>
void product_panel(const flic::exact::PackedProduct& p, const ptrdiff_t* tap_offset, int column,
                   int rows, const float* const* in, float* const* out) {
    const int depth = p.taps * p.channels;
    const float* const bias = p.bias ? p.bias + column : nullptr;
    for (int begin = 0; begin < depth; begin += kChain) {
        const int end = begin + kChain < depth ? begin + kChain : depth;
        const float* const weights = p.weights + static_cast<ptrdiff_t>(column) * depth +
                                     static_cast<ptrdiff_t>(begin) * kLanes * VECTORS;
        int r = 0;
        for (; r + kTileRows <= rows; r += kTileRows) {
            product_tile<kTileRows, VECTORS>(p, tap_offset, begin, end, weights, bias, in + r,
                                             out + r, column);
        }
        product_rest<kTileRows - 1, VECTORS>(rows - r, p, tap_offset, begin, end, weights, bias,
                                             in + r, out + r, column);
    }
}

constexpr int at_most_panel(int vectors) {
    return vectors < kPanelVectors ? vectors : kPanelVectors;
}

// out[r][n] for all rows and columns. tap_offset: of each tap from a row's pointer; rows of `out`
// hold p.columns values.
void product(const flic::exact::PackedProduct& p, const ptrdiff_t* tap_offset, int rows,
             const float* const* in, float* const* out) {
    for (int column = 0; column < p.columns; column += kLanes * kPanelVectors) {
        switch ((p.columns - column) / kLanes) {
            case 1: product_panel<1>(p, tap_offset, column, rows, in, out); break;
            case 2: product_panel<at_most_panel(2)>(p, tap_offset, column, rows, in, out); break;
            case 3: product_panel<at_most_panel(3)>(p, tap_offset, column, rows, in, out); break;
            default: product_panel<kPanelVectors>(p, tap_offset, column, rows, in, out); break;
        }
    }
}

}  // namespace
