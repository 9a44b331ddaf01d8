// The shapes of the exact engine's tiles in registers, for the instruction set of the including
// file.
#pragma once
#include "simd/lanes.h"

namespace {

// A product's tile: rows by vectors of columns. Attention's: queries by keys.
#if defined(FLIC_LANES_AVX512)
constexpr int kPanelVectors = 4;
constexpr int kTileRows = 6;
constexpr int kAttentionTile = 4;
#elif defined(FLIC_LANES_AVX2)
constexpr int kPanelVectors = 1;
constexpr int kTileRows = 6;  // 12 of the 16 registers
constexpr int kAttentionTile = 2;
#else
constexpr int kPanelVectors = 1;
constexpr int kTileRows = 4;
constexpr int kAttentionTile = 1;
#endif

}  // namespace
