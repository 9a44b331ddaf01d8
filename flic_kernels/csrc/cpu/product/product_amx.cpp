// Products of bfloat16 rows with pairs of weights, in AMX's tiles: 16 rows by 16 columns of sums,
// 32 k at a time.
#include "cpu/product/pairs.h"

namespace {

constexpr int kTileRows = 16;
constexpr int kDepth = 32;  // k of one instruction
constexpr int kPanelVectors = 2;
constexpr int kBlockRows = 128;  // rows whose tiles are found at a time
constexpr int kMostParts = Rows<float>::kMostParts;

// Tile registers: sums 0 to 3 (row tile, column tile), rows 4 and 5, weights 6 and 7.
struct alignas(64) TileConfiguration {
    uint8_t palette = 1;
    uint8_t start_row = 0;
    uint8_t reserved[14] = {};
    uint16_t row_bytes[16] = {};
    uint8_t rows[16] = {};

    TileConfiguration(int first_rows, int second_rows) {
        for (int i = 0; i < 8; ++i) {
            row_bytes[i] = 64;
            rows[i] = 16;
        }
        rows[0] = rows[1] = rows[4] = static_cast<uint8_t>(first_rows);
        rows[2] = rows[3] = rows[5] = static_cast<uint8_t>(second_rows);
    }
};

// gcc 12 does not know that the instructions which load tiles and their configuration read memory.
FLIC_INLINE void finish_stores() { __asm__ volatile("" ::: "memory"); }

// Up to 16 rows that are equally far apart in every part.
struct RowTile {
    int first, count;
    ptrdiff_t bytes[kMostParts];  // from row to row
};

inline RowTile row_tile(const Rows<const Bfloat16>& in, int first, int end) {
    RowTile t = {first, 1, {}};
    for (int part = 0; part < in.parts; ++part) {
        t.bytes[part] = end - first < 2 ? 0
                                        : reinterpret_cast<const char*>(in.at(first + 1, part)) -
                                              reinterpret_cast<const char*>(in.at(first, part));
    }
    const auto fits = [&](int row) {
        for (int part = 0; part < in.parts; ++part) {
            if (reinterpret_cast<const char*>(in.at(row, part)) -
                    reinterpret_cast<const char*>(in.at(row - 1, part)) !=
                t.bytes[part]) {
                return false;
            }
        }
        return true;
    };
    while (t.count < kTileRows && first + t.count < end && fits(first + t.count)) ++t.count;
    return t;
}

// The rows' last k, where a part's length is no multiple of 32, with zeros after them.
struct Tails {
    alignas(64) Bfloat16 k[kBlockRows][kMostParts][kDepth];

    void fill(const Panels& p, const Rows<const Bfloat16>& in, int begin, int end) {
        const int count = static_cast<int>(p.length % kDepth);
        if (!count) return;
        const __mmask32 mask = (__mmask32{1} << count) - 1;
        for (int row = begin; row < end; ++row) {
            for (int part = 0; part < p.parts; ++part) {
                const Bfloat16* const from = in.at(row, part) + p.length - count;
                _mm512_store_si512(k[row - begin][part], _mm512_maskz_loadu_epi16(mask, from));
            }
        }
    }
};

// One or two row tiles by one or two column tiles: all of k, then the epilogue.
template <int TILES, int VECTORS, class Out>
void tile_product(const Panels& p, const Bfloat16* weights, const Columns& columns,
                  const RowTile* tiles, int block, const Tails& tails,
                  const Rows<const Bfloat16>& in, const Rows<Out>& out,
                  const Epilogue<Out>& epilogue) {
    _tile_loadd(0, columns.bias, 0);
    if constexpr (VECTORS == 2) _tile_loadd(1, columns.bias + kLanes, 0);
    if constexpr (TILES == 2) _tile_loadd(2, columns.bias, 0);
    if constexpr (TILES == 2 && VECTORS == 2) _tile_loadd(3, columns.bias + kLanes, 0);
    constexpr ptrdiff_t kWeightBytes = kLanes * VECTORS * kPairBytes;
    const auto step = [&](const Bfloat16* a, ptrdiff_t a_bytes, const Bfloat16* b,
                          ptrdiff_t b_bytes) {
        _tile_loadd(6, weights, kWeightBytes);
        _tile_loadd(4, a, a_bytes);
        _tile_dpbf16ps(0, 4, 6);
        if constexpr (VECTORS == 2) {
            _tile_loadd(7, weights + 2 * kLanes, kWeightBytes);
            _tile_dpbf16ps(1, 4, 7);
        }
        if constexpr (TILES == 2) {
            _tile_loadd(5, b, b_bytes);
            _tile_dpbf16ps(2, 5, 6);
            if constexpr (VECTORS == 2) _tile_dpbf16ps(3, 5, 7);
        }
        weights += kDepth * kLanes * VECTORS;
    };
    const RowTile &first = tiles[0], &second = tiles[TILES - 1];
    for (int part = 0; part < p.parts; ++part) {
        const Bfloat16* const a = in.at(first.first, part);
        const Bfloat16* const b = in.at(second.first, part);
        ptrdiff_t k = 0;
        for (; k + kDepth <= p.length; k += kDepth) {
            step(a + k, first.bytes[part], b + k, second.bytes[part]);
        }
        if (k < p.length) {
            step(tails.k[first.first - block][part], sizeof tails.k[0],
                 tails.k[second.first - block][part], sizeof tails.k[0]);
        }
    }
    constexpr int kStride = kLanes * VECTORS;
    alignas(64) float buffer[TILES][kTileRows][kStride];
    _tile_stored(0, buffer[0][0], sizeof buffer[0][0]);
    if constexpr (VECTORS == 2) _tile_stored(1, buffer[0][0] + kLanes, sizeof buffer[0][0]);
    if constexpr (TILES == 2) _tile_stored(2, buffer[TILES - 1][0], sizeof buffer[0][0]);
    if constexpr (TILES == 2 && VECTORS == 2) {
        _tile_stored(3, buffer[TILES - 1][0] + kLanes, sizeof buffer[0][0]);
    }
    for (int i = 0; i < TILES; ++i) {
        finish(buffer[i][0], kStride, tiles[i].first, tiles[i].count, columns, out, epilogue);
    }
}

template <class Out>
void product(const Panels& p, int rows, const Rows<const Bfloat16>& in, const Rows<Out>& out,
             const Epilogue<Out>& epilogue) {
    int configured[2] = {0, 0};
    for (int block = 0; block < rows; block += kBlockRows) {
        const int end = rows - block < kBlockRows ? rows : block + kBlockRows;
        RowTile tiles[kBlockRows];
        int count = 0;
        for (int row = block; row < end; row += tiles[count++].count) {
            tiles[count] = row_tile(in, row, end);
        }
        Tails tails;
        tails.fill(p, in, block, end);
        finish_stores();
        for_panels(
            p, kPanelVectors, sizeof(Bfloat16), epilogue,
            [&](int vectors, const void* panel, const Columns& columns) {
                const Bfloat16* const weights = static_cast<const Bfloat16*>(panel);
                for (int t = 0; t < count; t += 2) {
                    const int second = t + 1 < count ? tiles[t + 1].count : 0;
                    if (configured[0] != tiles[t].count || (second && configured[1] != second)) {
                        configured[0] = tiles[t].count;
                        configured[1] = second ? second : kTileRows;
                        const TileConfiguration configuration(configured[0], configured[1]);
                        finish_stores();
                        _tile_loadconfig(&configuration);
                    }
                    const auto compute =
                        second ? vectors == 2 ? tile_product<2, 2, Out> : tile_product<2, 1, Out>
                        : vectors == 2 ? tile_product<1, 2, Out>
                                       : tile_product<1, 1, Out>;
                    compute(p, weights, columns, tiles + t, block, tails, in, out, epilogue);
                }
            });
    }
    _tile_release();
}

}  // namespace

namespace flic::cpu::FLIC_ISA {

const ProductKernels<Bfloat16> bfloat16_products = {
    kPanelVectors,     kDepth,     sizeof(Bfloat16), product<float>,
    product<Bfloat16>, pack_pairs, pack_row_pairs};

}  // namespace flic::cpu::FLIC_ISA
