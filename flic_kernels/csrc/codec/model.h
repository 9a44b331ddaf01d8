// A model, ready to code: its weights, transforms, exact engines and tables.
#pragma once
#include <stdint.h>

#include <atomic>
#include <memory>
#include <vector>

#include "base/pool.h"
#include "base/tasks.h"
#include "codec/model_file.h"
#include "codec/transforms.h"
#include "codec/work.h"
#include "exact/engine.h"
#include "rans/gaussian_tables.h"
#include "rans/tables.h"

namespace flic::codec {

// What g_a and h_a give, before it is rounded: y [latent][..][..], and z [hyper][..][..] less its
// medians.
struct Unrounded {
    Floats y, z;
};

// Safe from several threads.
class Model {
  public:
    // Throws Error where the weights cannot code.
    Model(std::unique_ptr<ModelFile> file, int threads);

    const ModelFile& file() const { return *file_; }
    const FlicModelInfo& info() const { return info_; }
    int slice_channels() const { return info_.latent / info_.slices; }

    // Throws Error where g_s cannot draw: an encoder does not run it, and would write files that
    // show nothing. What else coding takes is checked on the way.
    void check_drawing() const;

    // x: the padded picture inside tile.input(), [height][width][3] in [0, 1].
    Unrounded analyze(const float* x, const Tile& tile, const Work& work) const;
    // Pixels of a tile's core [height][width][3], not clamped, from y_hat inside tile.latents(),
    // [latent][height / 16][width / 16].
    Floats synthesize(const float* y_hat, const Tile& tile, const Work& work) const;

    const FlicTables& z_tables() const { return *z_tables_; }
    const float* medians() const { return medians_.data(); }
    // Bits that the likeliest symbols of a position of z cost.
    double least_z_bits() const { return least_z_bits_; }

    // An engine for one call: one at rest, or another.
    class Lease {
      public:
        Lease(const Model& model, int threads);
        ~Lease();
        Lease(const Lease&) = delete;
        Lease& operator=(const Lease&) = delete;
        exact::Engine& operator*() const { return *engine_; }

      private:
        const Model& model_;
        std::unique_ptr<exact::Engine> engine_;
    };

  private:
    void read_prior();
    // The exact engine's weights for these kernels, beside other tasks.
    void pack(const exact::Kernels& kernels, Tasks tasks, int threads) const;
    const Network<Bfloat16>& narrow() const;
    int64_t transform_bytes(const Box& box) const;

    const std::unique_ptr<ModelFile> file_;
    FlicModelInfo info_;
    const Weights weights_;
    const Network<float> wide_;
    std::vector<float> medians_;
    std::unique_ptr<FlicTables> z_tables_;
    double least_z_bits_ = 0;

    mutable Mutex mutex_;                                // of what follows
    mutable std::unique_ptr<Network<Bfloat16>> narrow_;  // made when it is first asked for
    mutable std::shared_ptr<const exact::PackedWeights> packed_;
    mutable const exact::Kernels* packed_for_ = nullptr;
    mutable std::vector<std::unique_ptr<exact::Engine>> idle_;
    mutable std::atomic<bool> draws_{false};  // as far as is known
};

// The Gaussian tables, made once a process.
struct GaussianCoder {
    rans::GaussianTables grid;  // one cell more, which vector loops may read
    std::unique_ptr<FlicTables> tables;
    double least_bits;  // that any symbol costs
};
const GaussianCoder& gaussian_coder();

}  // namespace flic::codec
