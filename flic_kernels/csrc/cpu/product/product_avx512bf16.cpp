// Products of bfloat16 rows with pairs of weights, for AVX-512 BF16.
#include <type_traits>

#include "cpu/product/pairs.h"
#include "simd/register_tile.h"

namespace {

// As the tile of product_simd.cpp, two k at a time.
template <int ROWS, int VECTORS, class Out>
void product_tile(const Panels& p, const uint32_t* weights, const Columns& columns, int first,
                  int rows, const Rows<const Bfloat16>& in, const Rows<Out>& out,
                  const Epilogue<Out>& epilogue) {
    __m512 sum[ROWS][VECTORS];
    FLIC_UNROLL for (int j = 0; j < VECTORS; ++j) {
        const __m512 bias = _mm512_loadu_ps(columns.bias + kLanes * j);
        FLIC_UNROLL for (int i = 0; i < ROWS; ++i) sum[i][j] = bias;
    }
    for (int part = 0; part < p.parts; ++part) {
        const Bfloat16* row[ROWS];
        FLIC_UNROLL for (int i = 0; i < ROWS; ++i) {
            row[i] = in.at(first + (i < rows ? i : rows - 1), part);
        }
        const auto add = [&](auto pair_of) {
            __m512bh w[VECTORS];
            FLIC_UNROLL for (int j = 0; j < VECTORS; ++j) {
                w[j] = (__m512bh)_mm512_loadu_si512(weights + kLanes * j);
            }
            weights += kLanes * VECTORS;
            FLIC_UNROLL for (int i = 0; i < ROWS; ++i) {
                const __m512bh x = (__m512bh)_mm512_set1_epi32(pair_of(row[i]));
                FLIC_UNROLL for (int j = 0; j < VECTORS; ++j) {
                    sum[i][j] = _mm512_dpbf16_ps(sum[i][j], w[j], x);
                }
            }
        };
        ptrdiff_t k = 0;
        for (; k + 2 <= p.length; k += 2) {
            add([&](const Bfloat16* r) {
                int pair;
                memcpy(&pair, r + k, sizeof pair);
                return pair;
            });
        }
        if (k < p.length) add([&](const Bfloat16* r) { return static_cast<int>(r[k]); });
    }
    alignas(64) float buffer[ROWS][kLanes * VECTORS];
    FLIC_UNROLL for (int i = 0; i < ROWS; ++i) {
        FLIC_UNROLL for (int j = 0; j < VECTORS; ++j) {
            _mm512_store_ps(&buffer[i][kLanes * j], sum[i][j]);
        }
    }
    finish(&buffer[0][0], kLanes * VECTORS, first, rows, columns, out, epilogue);
}

template <class Out>
void product(const Panels& p, int rows, const Rows<const Bfloat16>& in, const Rows<Out>& out,
             const Epilogue<Out>& epilogue) {
    for_panels(p, kWidest, sizeof(Bfloat16), epilogue,
               [&](int vectors, const void* panel, const Columns& columns) {
                   const uint32_t* const weights = static_cast<const uint32_t*>(panel);
                   const auto tiles = [&](auto width) {
                       constexpr int kRows = tile_rows(decltype(width)::value);
                       for (int r = 0; r < rows; r += kRows) {
                           product_tile<kRows, decltype(width)::value>(
                               p, weights, columns, r, rows - r < kRows ? rows - r : kRows, in, out,
                               epilogue);
                       }
                   };
                   switch (vectors) {
                       case 1: return tiles(std::integral_constant<int, 1>());
                       case 2: return tiles(std::integral_constant<int, 2>());
                       case 3: return tiles(std::integral_constant<int, 3>());
                       default: return tiles(std::integral_constant<int, 4>());
                   }
               });
}

}  // namespace

namespace flic::cpu::FLIC_ISA {

const ProductKernels<Bfloat16> bfloat16_products = {
    kWidest, 2, sizeof(Bfloat16), product<float>, product<Bfloat16>, pack_pairs, pack_row_pairs};

}  // namespace flic::cpu::FLIC_ISA
