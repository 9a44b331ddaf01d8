// What a whole FAT block is given, forward and backward.
#pragma once
#include <stdint.h>

#include "cpu/element.h"
#include "cpu/window_attention/window_attention.h"
#include "include/flic_kernels.h"

namespace flic::cpu {

using FATShape = FlicFatShape;
using FATParameters = FlicFatParameters;
using FATGradients = FlicFatGradients;

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
