// The register-tiled product with float32 weights, compiled for each instruction set.
//
// A tile is a few rows by a panel of columns. Its sums stay in registers over all of k, go through
// a small buffer to the epilogue, and are stored once.
#include <type_traits>

#include "cpu/product/finish.h"
#include "simd/load_store.h"
#include "simd/register_tile.h"

namespace {

// sum += a run of k.
template <int ROWS, int VECTORS>
FLIC_INLINE void multiply_add(const float* const (&row)[ROWS], const float* weights,
                              ptrdiff_t length, Lanes (&sum)[ROWS][VECTORS]) {
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

// bfloat16 rows are widened, a few k at a time.
template <int ROWS, int VECTORS>
FLIC_INLINE void multiply_add(const Bfloat16* const (&row)[ROWS], const float* weights,
                              ptrdiff_t length, Lanes (&sum)[ROWS][VECTORS]) {
    constexpr int kRun = 128;
    float wide[ROWS][kRun];
    const float* wide_row[ROWS];
    for (int i = 0; i < ROWS; ++i) wide_row[i] = wide[i];
    for (ptrdiff_t begin = 0; begin < length; begin += kRun) {
        const int run = static_cast<int>(length - begin < kRun ? length - begin : kRun);
        for (int i = 0; i < ROWS; ++i) {
            int k = 0;
            for (; k + kLanes <= run; k += kLanes) load(row[i] + begin + k).store(&wide[i][k]);
            if (k < run) load_first(row[i] + begin + k, run - k).store(&wide[i][k]);
        }
        multiply_add<ROWS, VECTORS>(wide_row, weights, run, sum);
        weights += run * kLanes * VECTORS;
    }
}

// value(i, j, lanes) of each of a tile's vectors to its place.
template <int ROWS, int VECTORS, class Out, class Value>
FLIC_INLINE void store_tile(const Lanes (&)[ROWS][VECTORS], int first, const Columns& columns,
                            const Rows<Out>& out, const Value& value) {
    const int last = columns.count - (VECTORS - 1) * kLanes;
    FLIC_UNROLL for (int i = 0; i < ROWS; ++i) {
        Out* const to = out.at(first + i, columns.group) + columns.column;
        FLIC_UNROLL for (int j = 0; j < VECTORS; ++j) {
            const int n = j < VECTORS - 1 ? kLanes : last;
            store_run(to + kLanes * j, value(i, j, n), n);
        }
    }
}

// Rows [first, first + rows), at most ROWS; a tile with fewer computes its last row again.
template <int ROWS, int VECTORS, class In, class Out>
void product_tile(const Panels& p, const float* weights, const Columns& columns, int first,
                  int rows, const Rows<const In>& in, const Rows<Out>& out,
                  const Epilogue<Out>& epilogue) {
    Lanes sum[ROWS][VECTORS];
    FLIC_UNROLL for (int j = 0; j < VECTORS; ++j) {
        const Lanes bias = Lanes::load(columns.bias + kLanes * j);
        FLIC_UNROLL for (int i = 0; i < ROWS; ++i) sum[i][j] = bias;
    }
    for (int part = 0; part < p.parts; ++part) {
        const In* row[ROWS];
        FLIC_UNROLL for (int i = 0; i < ROWS; ++i) {
            row[i] = in.at(first + (i < rows ? i : rows - 1), part);
        }
        multiply_add<ROWS, VECTORS>(row, weights, p.length, sum);
        weights += p.length * kLanes * VECTORS;
    }
    if (columns.plain && rows == ROWS) {
        if (epilogue.residual) {
            store_tile(sum, first, columns, out, [&](int i, int j, int n) {
                const Out* const row = epilogue.residual.at(first + i, columns.group);
                return Lanes::add(sum[i][j], load_run(row + columns.column + kLanes * j, n));
            });
        } else {
            store_tile(sum, first, columns, out, [&](int i, int j, int) { return sum[i][j]; });
        }
        return;
    }
    alignas(64) float buffer[ROWS][kLanes * VECTORS];
    FLIC_UNROLL for (int i = 0; i < ROWS; ++i) {
        FLIC_UNROLL for (int j = 0; j < VECTORS; ++j) sum[i][j].store(&buffer[i][kLanes * j]);
    }
    finish(&buffer[0][0], kLanes * VECTORS, first, rows, columns, out, epilogue);
}

// Rows that come from memory are asked for one tile ahead, by the first panel that needs them.
template <class In>
FLIC_INLINE void prefetch(const Panels& p, int first, int last, const Rows<const In>& in) {
    constexpr ptrdiff_t kLine = 64 / sizeof(In);
    for (int r = first; r < last; ++r) {
        for (int part = 0; part < p.parts; ++part) {
            const In* const row = in.at(r, part);
            for (ptrdiff_t k = 0; k < p.length; k += kLine) __builtin_prefetch(row + k);
        }
    }
}

constexpr int at_most_widest(int vectors) { return vectors < kWidest ? vectors : kWidest; }

template <class In, class Out>
void product(const Panels& p, int rows, const Rows<const In>& in, const Rows<Out>& out,
             const Epilogue<Out>& epilogue) {
    for_panels(p, kWidest, sizeof(float), epilogue,
               [&](int vectors, const void* panel, const Columns& columns) {
                   const float* const weights = static_cast<const float*>(panel);
                   const auto tiles = [&](auto width) {
                       constexpr int kVectors = at_most_widest(decltype(width)::value);
                       constexpr int kRows = tile_rows(kVectors);
                       for (int r = 0; r < rows; r += kRows) {
                           if (columns.bias == p.bias) {
                               prefetch(p, r + kRows, rows < r + 2 * kRows ? rows : r + 2 * kRows,
                                        in);
                           }
                           product_tile<kRows, kVectors>(p, weights, columns, r,
                                                         rows - r < kRows ? rows - r : kRows, in,
                                                         out, epilogue);
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

// Blocks of 16 columns by 16 weights are transposed; a weight's place follows from its tap and
// channel.
template <class In>
void pack(const flic::cpu::PackTask& t) {
    const ptrdiff_t depth = static_cast<ptrdiff_t>(t.channels) * t.taps;
    float* const panel = static_cast<float*>(t.panel) + t.column;
    int channel = 0, tap = 0;  // of weight k
    for (ptrdiff_t k = 0; k < depth; k += kLanes) {
        const int count = depth - k < kLanes ? static_cast<int>(depth - k) : kLanes;
        Lanes block[kLanes];
        FLIC_UNROLL for (int i = 0; i < kLanes; ++i) {
            const In* const from = static_cast<const In*>(t.from[i]);
            block[i] = !from             ? Lanes::set(0.0f)
                       : count == kLanes ? load(from + k)
                                         : load_first(from + k, count);
        }
        transpose(block);
        for (int j = 0; j < count; ++j) {
            block[j].store(panel + (static_cast<ptrdiff_t>(tap) * t.channels + channel) * t.width);
            if (++tap == t.taps) tap = 0, ++channel;
        }
    }
}

template <class In>
void pack_rows(const flic::cpu::PackTask& t) {
    const In* from = static_cast<const In*>(t.first);
    float* to = static_cast<float*>(t.panel) + t.column;
    for (int k = 0; k < t.channels; ++k, from += t.stride, to += t.width) {
        (t.count == kLanes ? load(from) : load_first(from, t.count)).store(to);
    }
    for (ptrdiff_t k = t.channels; k < t.panels.length; ++k, to += t.width) {
        Lanes::set(0.0f).store(to);
    }
}

}  // namespace

namespace flic::cpu::FLIC_ISA {

const ProductKernels<float> products = {
    kWidest,         1, sizeof(float), product<float, float>, product<float, Bfloat16>, pack<float>,
    pack_rows<float>};
const ProductKernels<Bfloat16> bfloat16_products = {kWidest,
                                                    1,
                                                    sizeof(float),
                                                    product<Bfloat16, float>,
                                                    product<Bfloat16, Bfloat16>,
                                                    pack<Bfloat16>,
                                                    pack_rows<Bfloat16>};

}  // namespace flic::cpu::FLIC_ISA
