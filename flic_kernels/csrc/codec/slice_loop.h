// From integers to a stream and back (docs/format.md, "Stream"; flic/coding/slice_loop.py is its
// readable twin): z by its prior's tables, then slice after slice of y, each by Gaussians that T-CA
// gives from what is known so far.
//
// A tile of a larger picture is coded as a picture of its own that is known to go on: the networks
// see margins around it, in which z and each slice of y repeat the tile's border.
#pragma once
#include <stdint.h>

#include <vector>

#include "codec/flic_file.h"
#include "codec/model.h"

namespace flic::codec {

// A stream, and g_s's input [latent][height / 16][width / 16] of the tile's core.
struct Coded {
    std::vector<uint8_t> stream;
    Floats y_hat;
};

// Throws Error where the integers at this step, or the means and scales, are not finite.
Coded code(const Model& model, const Unrounded& analysed, const Tile& tile, float step,
           const Work& work);

// g_s's input from a stream, of which nothing is believed. Throws Error.
Floats decode(const Model& model, const Section& stream, const Tile& tile, float step,
              const Work& work);

}  // namespace flic::codec
