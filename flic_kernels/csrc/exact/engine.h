// The exact engine: one model's weights, threads and scratch memory, and pictures in the course of
// coding.
#pragma once
#include <stdint.h>

#include <memory>
#include <vector>

#include "base/pool.h"
#include "exact/weights.h"

namespace flic::exact {

// Channels-last pixels, channels padded to a multiple of 16, with a border of one zero pixel.
class HaloImage {
  public:
    HaloImage(int height, int width, int channels);
    float* pixel(int y, int x) const {
        return data_.get() + (static_cast<ptrdiff_t>(y + 1) * (width_ + 2) + x + 1) * stride_;
    }
    // Of the nine taps of a 3x3 convolution, from a pixel.
    const ptrdiff_t* tap_offsets() const { return offsets_; }
    // From [channels][height][width], into channels from `first`.
    void read_planes(const float* planes, int first, int channels);

  private:
    int height_, width_, stride_;
    ptrdiff_t offsets_[9];
    Floats data_;
};

// isa: 0 scalar, 1 AVX2, 2 AVX-512, -1 the one in use. Throws Error.
const Kernels& kernels_for(int isa);

class Engine {
  public:
    // weights: packed for these kernels; other engines may use them, too.
    Engine(const Config& config, const Kernels& kernels,
           std::shared_ptr<const PackedWeights> weights, int threads);

    // z_hat [hyper_latent][height][width] -> means and scales [latent][4 height][4 width]. Both
    // sides even.
    void hyper(const float* z_hat, int height, int width, float* means, float* scales);

    const Config config;
    const Kernels& kernels;
    const std::shared_ptr<const PackedWeights> weights;
    const int threads;

    Mutex mutex;  // one call at a time
    Pool& pool() const { return team(threads); }
    static constexpr int kRows =
        48;  // rows of one item of a job: eight register tiles, three 4x4 tiles

    struct Worker {
        Floats halo;  // [10][10][inner], its border zero for ever
        Floats scratch;
        std::vector<const float*> key_values;  // of one window, for each slice
    };
    std::vector<Worker> workers;

  private:
    size_t scratch_size() const;
};

// Hands out parts of a worker's scratch memory.
class Scratch {
  public:
    explicit Scratch(const Engine::Worker& worker) : next_(worker.scratch.get()) {}
    float* take(size_t count) {
        float* const taken = next_;
        next_ += (count + 15) / 16 * 16;
        return taken;
    }

  private:
    float* next_;
};

// A product over rows that stand `in_stride` and `out_stride` apart; at most 64 rows.
void dense(const Kernels& kernels, const Packed& weights, int rows, const float* in,
           ptrdiff_t in_stride, float* out, ptrdiff_t out_stride);

bool all_finite(const float* x, size_t count);

// One picture's T-CA: slices in order, keys and values of the earlier ones kept.
class Picture {
  public:
    // means and scales of the hyperprior, [latent][height][width] each; both sides multiples of 8.
    Picture(Engine& engine, const float* means, const float* scales, int height, int width);

    // Slice i's means, scales and corrections, [slice_channels][height][width] each, from the
    // decoded slice i - 1 (ignored for the first).
    void slice(int i, const float* previous, float* means, float* scales, float* corrections);

    // u of the slice computed last, after T-CA's last layer: [windows][64][inner].
    const Floats& hidden() const { return u_; }
    // Multiply-adds of all products, convolutions and attentions so far.
    int64_t multiply_adds() const { return multiply_adds_; }
    Engine& engine() const { return engine_; }

  private:
    int windows() const { return (height_ / kWindow) * (width_ / kWindow); }
    float* window(int w) const {
        return u_.get() + static_cast<size_t>(w) * kPositions * engine_.config.inner();
    }
    float* key_value(int layer, int slice, int w);
    void lift(int slice, int w);
    void attention_half(int slice, int layer, int w, int worker);
    void mlp_half(const TcaLayerWeights& weights, const Moments& moments, int w, int worker);
    Moments merge_moments() const;  // of the whole picture from each window's
    void interleave(int slice, int w);
    void entropy_parameters(int slice, float* means, float* scales, float* corrections);
    void count(const Packed& weights, int64_t rows) {
        multiply_adds_ += static_cast<int64_t>(weights.multiply_adds()) * rows;
    }

    Engine& engine_;
    int height_, width_;
    int next_ = 0;  // slice
    int64_t multiply_adds_ = 0;
    HaloImage past_;  // the start token, then the slice before
    Floats side_;     // [pixels][2 * latent padded]
    Floats u_;
    std::vector<Moments> moments_;  // of each window
    Floats key_value_;              // [layer * (slices - 1) + slice][windows][64][2 * inner]
    Floats last_key_value_;         // of the last slice, which no later one reads
    HaloImage features_, hidden1_, hidden2_;  // of the entropy parameters' network
};

}  // namespace flic::exact
