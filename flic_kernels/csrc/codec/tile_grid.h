// Where the tiles of a large picture lie (docs/format.md, "Tiles"; flic/format/tile_grid.py is its
// readable twin). Lengths are pixels of the padded picture.
#pragma once
#include <stdint.h>

#include <string>
#include <vector>

namespace flic::codec {

constexpr int kStride = 128;  // a padded picture's sides are multiples of this
// A window's side at 1/2, 1/4 and 1/8 of the resolution, in pixels of the picture.
constexpr int kFine = 32, kMiddle = 64, kCoarse = 128;
constexpr int64_t kAutoPixels = int64_t{1} << 22;  // the largest picture that is coded whole
constexpr int kAutoTile = 1024;                    // the tiles' side of any larger one

inline int divided_up(int a, int b) { return (a + b - 1) / b; }

struct Margins {  // around a box
    int top, left, bottom, right;

    bool any() const { return top || left || bottom || right; }
    Margins at(int scale) const {
        return {top / scale, left / scale, bottom / scale, right / scale};
    }
};

struct Box {  // both ends half open
    int top, left, bottom, right;

    int height() const { return bottom - top; }
    int width() const { return right - left; }
    bool empty() const { return height() <= 0 || width() <= 0; }
    Box common(const Box& other) const;
    Box around(const Box& other) const;  // the smallest that holds both
    Box grown(int margin, const Box& bounds) const;
    Margins margins_to(const Box& outer) const;
};

struct Tile {
    Box core;    // what no other tile holds
    Box coded;   // core and the margins that it is coded with
    Box bounds;  // the padded picture

    Margins margins() const { return core.margins_to(coded); }
    Box input() const { return core.grown(kFine, bounds); }      // what g_a takes
    Box latents() const { return core.grown(kCoarse, bounds); }  // what g_s takes
};

// Margins of a tile, each at the resolution where it counts.
struct AnalysisTile {
    explicit AnalysisTile(const Tile& tile);
    Margins middle, coarse;  // the border is repeated so far at 1/4 and 1/8 of the resolution
    Margins cut;             // off y
    Margins around;          // repeated around y for h_a
    Margins hyper_cut;       // off z
};

struct SynthesisTile {
    explicit SynthesisTile(const Tile& tile);
    Margins middle, fine, cut;  // off at 1/4, 1/2 and at the picture's resolution
};

// Row by row; a single tile where the picture is coded whole.
class Grid {
  public:
    // side: a multiple of 128, or 0.
    Grid(int height, int width, int side);

    const Box& bounds() const { return bounds_; }
    int64_t size() const { return static_cast<int64_t>(rows_) * columns_; }
    Tile operator[](int64_t i) const;
    std::vector<int64_t> meeting(const Box& box) const;  // tiles whose cores have a pixel of it
    std::string name(int64_t i) const;                   // for people
    // The tiles that a region lies in, and the streams that drawing them takes.
    std::vector<int64_t> streams_for(const Box& region) const;

  private:
    Box bounds_;
    int side_, rows_, columns_;
};

// The tiles' side for what is asked for (FLIC_TILE_AUTO, FLIC_TILE_NONE or a side), 0 where the
// picture is coded whole. Throws Error.
int choose_tile(int height, int width, int asked);

}  // namespace flic::codec
