// Sums of outer products of rows, for the instruction set of the including file: the gradient of a
// product's weight, from the rows as they lie.
//
// A tile is a few columns of the left rows by a panel of columns of the right ones, whose sums stay
// in registers over a run of rows. Left values are broadcast, right ones are vectors.
#pragma once
#include <type_traits>

#include "cpu/product/product.h"
#include "simd/load_store.h"
#include "simd/register_tile.h"

namespace {

constexpr int kOuterRows =
    128;  // of a run: a panel's columns of them stay in the first-level cache

// sums[i][16 j] += left[row][i] * right[row][16 j]; the last vector of a row has `last` columns.
template <int HEIGHT, int VECTORS>
void outer_tile(int rows, const float* left, ptrdiff_t left_stride, const float* const* right,
                ptrdiff_t column, int last, float* sums, ptrdiff_t stride) {
    Lanes sum[HEIGHT][VECTORS];
    const auto width = [&](int j) { return j == VECTORS - 1 ? last : kLanes; };
    FLIC_UNROLL for (int i = 0; i < HEIGHT; ++i) {
        FLIC_UNROLL for (int j = 0; j < VECTORS; ++j) {
            sum[i][j] = load_run(sums + i * stride + kLanes * j, width(j));
        }
    }
    for (int r = 0; r < rows; ++r, left += left_stride) {
        const float* const row = right[r] + column;
        Lanes v[VECTORS];
        FLIC_UNROLL for (int j = 0; j < VECTORS; ++j) v[j] = load_run(row + kLanes * j, width(j));
        FLIC_UNROLL for (int i = 0; i < HEIGHT; ++i) {
            const Lanes x = Lanes::set(left[i]);
            FLIC_UNROLL for (int j = 0; j < VECTORS; ++j) sum[i][j] =
                Lanes::fma(x, v[j], sum[i][j]);
        }
    }
    FLIC_UNROLL for (int i = 0; i < HEIGHT; ++i) {
        FLIC_UNROLL for (int j = 0; j < VECTORS; ++j) {
            store_run(sums + i * stride + kLanes * j, sum[i][j], width(j));
        }
    }
}

template <int VECTORS>
void outer_panel(int rows, const float* left, ptrdiff_t left_stride, int outputs,
                 const float* const* right, ptrdiff_t column, int last, float* sums,
                 ptrdiff_t stride) {
    constexpr int kHeight = tile_rows(VECTORS);
    int i = 0;
    const auto tiles = [&](auto height) {
        constexpr int kRows = decltype(height)::value;
        for (; i + kRows <= outputs; i += kRows) {
            float* const to = sums + i * stride;
            if (last == kLanes) {  // a constant, so that whole vectors are loaded as such
                outer_tile<kRows, VECTORS>(rows, left + i, left_stride, right, column, kLanes, to,
                                           stride);
            } else {
                outer_tile<kRows, VECTORS>(rows, left + i, left_stride, right, column, last, to,
                                           stride);
            }
        }
    };
    tiles(std::integral_constant<int, kHeight>());
    tiles(std::integral_constant<int, 4>());
    tiles(std::integral_constant<int, 1>());
}

void add_outer(int count, const float* left, ptrdiff_t left_stride, int outputs,
               const flic::cpu::Rows<const float>& right, int length, float* sums) {
    const ptrdiff_t stride = static_cast<ptrdiff_t>(length) * right.parts;
    const int vectors = (length + kLanes - 1) / kLanes;
    for (int first = 0; first < count; first += kOuterRows) {
        const int rows = count - first < kOuterRows ? count - first : kOuterRows;
        const float* const from = left + first * left_stride;
        for (int part = 0; part < right.parts; ++part) {
            const float* row[kOuterRows];
            for (int r = 0; r < rows; ++r) row[r] = right.at(first + r, part);
            for (int v = 0; v < vectors;) {
                const int width = flic::cpu::panel_span(vectors, v, kWidest).vectors;
                const int column = v * kLanes, left_over = length - column - (width - 1) * kLanes;
                const int last = left_over < kLanes ? left_over : kLanes;
                float* const to = sums + static_cast<ptrdiff_t>(part) * length + column;
                const auto panel = [&](auto size) {
                    constexpr int kVectors =
                        decltype(size)::value < kWidest ? decltype(size)::value : kWidest;
                    outer_panel<kVectors>(rows, from, left_stride, outputs, row, column, last, to,
                                          stride);
                };
                switch (width) {
                    case 1: panel(std::integral_constant<int, 1>()); break;
                    case 2: panel(std::integral_constant<int, 2>()); break;
                    case 3: panel(std::integral_constant<int, 3>()); break;
                    default: panel(std::integral_constant<int, 4>());
                }
                v += width;
            }
        }
    }
}

}  // namespace
