// The network's transforms g_a, h_a and g_s on the CPU operations, from the published state dict.
#pragma once
#include <stdint.h>

#include <map>
#include <string>
#include <vector>

#include "base/errors.h"
#include "base/floats.h"
#include "codec/model_file.h"
#include "codec/tile_grid.h"
#include "cpu/rows.h"
#include "include/flic_kernels.h"

namespace flic::codec {

using cpu::Bfloat16;

using Config = FlicModelInfo;  // sizes of the network, as flic/config.py has them

// A model's arrays by the published names, which outlive what is made of them.
class Weights {
  public:
    explicit Weights(const std::map<std::string, Tensor>& tensors) : tensors_(tensors) {}
    // Throws Error where it is missing or has another size.
    const float* find(const std::string& name, size_t count) const;

  private:
    const std::map<std::string, Tensor>& tensors_;
};

// A 3x3 convolution and what follows it. T: of activations and of products' weights.
template <class T>
struct Convolution {
    const T* weight;
    const float* bias;
    int channels, outputs, stride, shuffle;
    bool leaky;
    const float *gamma, *beta;  // null: no normalisation
    bool inverse;
};

template <class T>
struct Pointwise {
    const T* weight;
    const float* bias;
    int channels, outputs, stride;
};

struct Block {
    FlicFatParameters parameters;
    int channels, heads, window, modulation;
};

// A residual block that halves or doubles the resolution, then a plain and a shifted FAT block.
template <class T>
struct Stage {
    bool up;
    Convolution<T> first, second;
    Pointwise<T> skip;        // down
    Convolution<T> upsample;  // up
    Block blocks[2];
};

// Channels-last pixels.
template <class T>
struct Pixels {
    T* data;
    int height, width, channels;

    size_t size() const { return static_cast<size_t>(height) * width * channels; }
};

// Three buffers that layers take turns with: what one reads lies in another than what it writes.
template <class T>
class Buffers {
  public:
    explicit Buffers(size_t most);  // elements of the largest image
    Pixels<T> image(int slot, int height, int width, int channels) const;

  private:
    size_t most_;
    Floats slots_[3];
};

// The layers for one type of activations.
template <class T>
class Network {
  public:
    Network(const Config& config, const Weights& weights);

    // x [height][width][3] -> y, in steps of stages that extend and cut as `tile` says. Both sides
    // multiples of 16.
    Pixels<T> analyze(const float* x, int height, int width, const AnalysisTile& tile,
                      Buffers<T>& buffers, int threads) const;
    // y in channels-last order, in the buffers' slot 0 -> z.
    Pixels<T> hyper_analyze(const Pixels<T>& y, Buffers<T>& buffers, int threads) const;
    // y_hat in channels-last order, in the buffers' slot 0 -> pixels.
    Pixels<T> synthesize(const Pixels<T>& y_hat, const SynthesisTile& tile, Buffers<T>& buffers,
                         int threads) const;

    // Elements of the largest image on the way, for Buffers; sides of what goes in.
    size_t most_of_analysis(int height, int width, const AnalysisTile& tile) const;
    size_t most_of_hyper_analysis(int height, int width) const;
    size_t most_of_synthesis(int height, int width) const;  // of y_hat

  private:
    class Loader;

    Config config_;
    std::vector<std::vector<T>> narrow_;  // weights of type T where that is not float
    std::vector<Floats> made_;            // GDN's parameters as they are used
    Stage<T> g_a_[3], g_s_[3], h_a_;
    Convolution<T> y_, z_, x_;  // the transforms' last layers
};

}  // namespace flic::codec
