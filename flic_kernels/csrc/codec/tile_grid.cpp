#include "codec/tile_grid.h"

#include <algorithm>

#include "base/errors.h"

namespace flic::codec {
namespace {

// 128 pixels, shared among the sides that have a neighbour.
int shared(bool here, bool there) {
    if (!here) return 0;
    return there ? kStride / 2 : kStride;
}

}  // namespace

Box Box::common(const Box& other) const {
    return {std::max(top, other.top), std::max(left, other.left), std::min(bottom, other.bottom),
            std::min(right, other.right)};
}

Box Box::around(const Box& other) const {
    return {std::min(top, other.top), std::min(left, other.left), std::max(bottom, other.bottom),
            std::max(right, other.right)};
}

Box Box::grown(int margin, const Box& bounds) const {
    return Box{top - margin, left - margin, bottom + margin, right + margin}.common(bounds);
}

Margins Box::margins_to(const Box& outer) const {
    return {top - outer.top, left - outer.left, outer.bottom - bottom, outer.right - right};
}

AnalysisTile::AnalysisTile(const Tile& tile) {
    const Box fine = tile.input(), coarse_box = tile.latents();
    const Box middle_box = tile.core.grown(kMiddle, tile.bounds);
    middle = fine.margins_to(middle_box).at(4);
    coarse = middle_box.margins_to(coarse_box).at(8);
    cut = tile.core.margins_to(coarse_box).at(16);
    around = tile.margins().at(16);
    hyper_cut = tile.margins().at(64);
}

SynthesisTile::SynthesisTile(const Tile& tile) {
    const Box coarse_box = tile.latents(), fine_box = tile.input();
    const Box middle_box = tile.core.grown(kMiddle, tile.bounds);
    middle = middle_box.margins_to(coarse_box).at(4);
    fine = fine_box.margins_to(middle_box).at(2);
    cut = tile.core.margins_to(fine_box);
}

Grid::Grid(int height, int width, int side)
    : bounds_{0, 0, divided_up(height, kStride) * kStride, divided_up(width, kStride) * kStride},
      side_(side ? side : std::max(bounds_.bottom, bounds_.right)),
      rows_(divided_up(bounds_.bottom, side_)),
      columns_(divided_up(bounds_.right, side_)) {}

Tile Grid::operator[](int64_t i) const {
    const int top = static_cast<int>(i / columns_) * side_;
    const int left = static_cast<int>(i % columns_) * side_;
    const Box core = {top, left, std::min(top + side_, bounds_.bottom),
                      std::min(left + side_, bounds_.right)};
    const bool above = core.top > 0, below = core.bottom < bounds_.bottom;
    const bool before = core.left > 0, behind = core.right < bounds_.right;
    const Box coded = {core.top - shared(above, below), core.left - shared(before, behind),
                       core.bottom + shared(below, above), core.right + shared(behind, before)};
    return {core, coded, bounds_};
}

std::vector<int64_t> Grid::meeting(const Box& box) const {
    const Box part = bounds_.common(box);
    std::vector<int64_t> found;
    if (part.empty()) return found;
    for (int row = part.top / side_; row < divided_up(part.bottom, side_); ++row) {
        for (int column = part.left / side_; column < divided_up(part.right, side_); ++column) {
            found.push_back(static_cast<int64_t>(row) * columns_ + column);
        }
    }
    return found;
}

std::string Grid::name(int64_t i) const {
    return "tile " + std::to_string(i) + " (row " + std::to_string(i / columns_) + ", column " +
           std::to_string(i % columns_) + ")";
}

std::vector<int64_t> Grid::streams_for(const Box& region) const {
    std::vector<int64_t> all;
    for (const int64_t i : meeting(region)) {
        for (const int64_t j : meeting((*this)[i].latents())) all.push_back(j);
    }
    std::sort(all.begin(), all.end());
    all.erase(std::unique(all.begin(), all.end()), all.end());
    return all;
}

int choose_tile(int height, int width, int asked) {
    if (asked == FLIC_TILE_AUTO) {
        asked = static_cast<int64_t>(height) * width > kAutoPixels ? kAutoTile : FLIC_TILE_NONE;
    }
    if (asked == FLIC_TILE_NONE) return 0;
    require(asked >= kStride && asked % kStride == 0,
            "the tile size must be automatic, none or a multiple of 128 pixels");
    return std::max(height, width) > asked ? asked : 0;
}

}  // namespace flic::codec
