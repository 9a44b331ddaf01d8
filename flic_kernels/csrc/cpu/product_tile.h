// The register-tiled product, for the instruction set of the including file.
//
// A tile is a few rows by a panel of columns. Its sums stay in registers over all of k, go through
// a small buffer to the epilogue, and are stored once.
#pragma once
#include "functions.h"
#include "product.h"
#include "vector.h"

namespace {

using flic::cpu::Activation;
using flic::cpu::Epilogue;
using flic::cpu::Panels;
using flic::cpu::Root;
using flic::cpu::Rows;

#if defined(FLIC_LANES_AVX512)
constexpr int kWidest = 4;
constexpr int tile_rows(int vectors) {  // 32 registers: sums, a panel's row of weights, one value
    return vectors == 4 ? 6 : vectors == 3 ? 8 : vectors == 2 ? 12 : 12;
}
#elif defined(FLIC_LANES_AVX2)
constexpr int kWidest = 1;
constexpr int tile_rows(int) { return 6; }
#else
constexpr int kWidest = 1;
constexpr int tile_rows(int) { return 4; }
#endif

// One panel's columns of one group, and where they go.
struct Columns {
    const float* weights;  // of the panel
    const float* bias;
    int group;
    int column;  // the first, within the group
    int count;   // to store
    bool plain;  // all of them, as they are
};

// The epilogue on a tile of `rows` rows: buffer [rows][stride] to out.
inline void finish(const float* buffer, int stride, int first, int rows, const Columns& c,
                   const Rows<float>& out, const Epilogue& e) {
    for (int r = 0; r < rows; ++r, buffer += stride) {
        float* const to = out.at(first + r, c.group) + c.column;
        const float* const factor =
            e.root == Root::none ? nullptr : e.factor.at(first + r, c.group) + c.column;
        const float* const residual =
            e.residual ? e.residual.at(first + r, c.group) + c.column : nullptr;
        for (int n = 0; n < c.count; n += kLanes) {
            const int left = c.count - n;
            const auto load = [&](const float* from) {
                return left >= kLanes ? Lanes::load(from + n) : load_first(from + n, left);
            };
            Lanes v = Lanes::load(buffer + n);
            if (e.activation == Activation::leaky_relu) v = leaky_relu(v);
            if (e.activation == Activation::gelu) v = quick_gelu(v);
            if (e.root == Root::divide) v = Lanes::mul(load(factor), reciprocal_root(v));
            if (e.root == Root::multiply) v = Lanes::mul(load(factor), Lanes::sqrt(v));
            if (residual) v = Lanes::add(v, load(residual));
            if (left >= kLanes) {
                v.store(to + n);
            } else {
                store_first(to + n, v, left);
            }
        }
    }
}

// Rows [first, first + rows), at most ROWS; a tile with fewer computes its last row again.
template <int ROWS, int VECTORS>
void product_tile(ptrdiff_t depth, const Columns& columns, int first, int rows,
                  const Rows<const float>& in, const Rows<float>& out, const Epilogue& epilogue) {
    Lanes sum[ROWS][VECTORS];
    FLIC_UNROLL for (int j = 0; j < VECTORS; ++j) {
        const Lanes bias = Lanes::load(columns.bias + kLanes * j);
        FLIC_UNROLL for (int i = 0; i < ROWS; ++i) sum[i][j] = bias;
    }
    const float* weights = columns.weights;
    const ptrdiff_t length = depth / in.parts;
    for (int part = 0; part < in.parts; ++part) {
        const float* row[ROWS];
        FLIC_UNROLL for (int i = 0; i < ROWS; ++i) {
            row[i] = in.at(first + (i < rows ? i : rows - 1), part);
        }
        _Pragma("GCC unroll 4") for (ptrdiff_t k = 0; k < length; ++k) {
            Lanes w[VECTORS];
            FLIC_UNROLL for (int j = 0; j < VECTORS; ++j) w[j] = Lanes::load(weights + kLanes * j);
            weights += kLanes * VECTORS;
            FLIC_UNROLL for (int i = 0; i < ROWS; ++i) {
                const Lanes x = Lanes::set(row[i][k]);
                FLIC_UNROLL for (int j = 0; j < VECTORS; ++j) {
                    sum[i][j] = Lanes::fma(x, w[j], sum[i][j]);
                }
            }
        }
    }
    if (columns.plain && rows == ROWS) {
        FLIC_UNROLL for (int i = 0; i < ROWS; ++i) {
            float* const to = out.at(first + i, columns.group) + columns.column;
            FLIC_UNROLL for (int j = 0; j < VECTORS; ++j) sum[i][j].store(to + kLanes * j);
        }
        return;
    }
    alignas(64) float buffer[ROWS][kLanes * VECTORS];
    FLIC_UNROLL for (int i = 0; i < ROWS; ++i) {
        FLIC_UNROLL for (int j = 0; j < VECTORS; ++j) sum[i][j].store(&buffer[i][kLanes * j]);
    }
    finish(&buffer[0][0], kLanes * VECTORS, first, rows, columns, out, epilogue);
}

template <int VECTORS>
void product_panel(ptrdiff_t depth, const Columns& columns, int rows, const Rows<const float>& in,
                   const Rows<float>& out, const Epilogue& epilogue) {
    constexpr int kRows = tile_rows(VECTORS);
    for (int r = 0; r < rows; r += kRows) {
        product_tile<kRows, VECTORS>(depth, columns, r, rows - r < kRows ? rows - r : kRows, in,
                                     out, epilogue);
    }
}

constexpr int at_most_widest(int vectors) { return vectors < kWidest ? vectors : kWidest; }

void product(const Panels& p, int rows, const Rows<const float>& in, const Rows<float>& out,
             const Epilogue& epilogue) {
    const ptrdiff_t depth = p.depth;
    const bool plain =
        epilogue.activation == Activation::none && epilogue.root == Root::none && !epilogue.residual;
    const float* weights = p.weights;
    const float* bias = p.bias;
    for (int group = 0; group < p.groups; ++group) {
        for (int v = 0; v < p.group_vectors;) {
            const int vectors = flic::cpu::panel_span(p.group_vectors, v, kWidest).vectors;
            const int column = v * kLanes, width = vectors * kLanes;
            const int real = p.group_outputs - column < width ? p.group_outputs - column : width;
            const int count = epilogue.padded ? width : real;
            const Columns columns = {weights, bias, group, column, count, plain && count == width};
            switch (vectors) {
                case 1:
                    product_panel<1>(depth, columns, rows, in, out, epilogue);
                    break;
                case 2:
                    product_panel<at_most_widest(2)>(depth, columns, rows, in, out, epilogue);
                    break;
                case 3:
                    product_panel<at_most_widest(3)>(depth, columns, rows, in, out, epilogue);
                    break;
                default:
                    product_panel<kWidest>(depth, columns, rows, in, out, epilogue);
                    break;
            }
            v += vectors;
            weights += depth * width;
            bias += width;
        }
    }
}

void pack_columns(const float* const* from, int channels, int taps, float* panel, int width) {
    const ptrdiff_t depth = static_cast<ptrdiff_t>(channels) * taps;
    int channel = 0, tap = 0;  // of source element k
    for (ptrdiff_t k = 0; k < depth; k += kLanes) {
        const int count = depth - k < kLanes ? static_cast<int>(depth - k) : kLanes;
        Lanes block[kLanes];
        FLIC_UNROLL for (int i = 0; i < kLanes; ++i) {
            block[i] = !from[i]          ? Lanes::set(0.0f)
                       : count == kLanes ? Lanes::load(from[i] + k)
                                         : load_first(from[i] + k, count);
        }
        transpose(block);
        for (int j = 0; j < count; ++j) {
            block[j].store(panel + (static_cast<ptrdiff_t>(tap) * channels + channel) * width);
            if (++tap == taps) tap = 0, ++channel;
        }
    }
}

constexpr flic::cpu::ProductKernels make_product_kernels() {
    return {kWidest, product, pack_columns};
}

}  // namespace
