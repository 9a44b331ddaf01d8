// Pictures to .flic files and back.
#pragma once
#include <stdint.h>

#include <vector>

#include "codec/flic_file.h"
#include "codec/slice_loop.h"

namespace flic::codec {

// As FlicEncoder in flic.h; model and image outlive it.
class Encoder {
  public:
    Encoder(const Model& model, const FlicImage& image, int tile, bool again);

    // Codes at a step; afterwards file() is the file.
    void code(float step, const FlicSections& sections, const Work& work);
    const std::vector<uint8_t>& file() const { return file_; }
    // What file() decodes to.
    void picture(const Work& work, const FlicImage& out) const;

  private:
    Unrounded analyse(const Tile& tile, const Work& work) const;

    const Model& model_;
    const FlicImage image_;
    const int tile_;
    const Grid grid_;
    const bool again_;
    float mean_[3];                    // the picture's colour, in [0, 1]
    std::vector<Unrounded> analysed_;  // of each tile, if `again`
    std::vector<Floats> y_hat_;        // of each tile, as coded last, if `again`
    std::vector<uint8_t> file_;
};

// As flic_decode and flic_verify.
void decode(const Model& model, const uint8_t* data, size_t size, const FlicRegion* region,
            const Work& work, const FlicImage& out);
void verify(const Model& model, const uint8_t* data, size_t size, const Work& work);

}  // namespace flic::codec
