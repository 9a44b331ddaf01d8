// The engine's weights: found by the published state dict's names, folded and packed once a model.
#pragma once
#include <stdint.h>

#include <functional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/errors.h"
#include "base/floats.h"
#include "exact/exact_kernels.h"

namespace flic::exact {

constexpr int padded(int channels) { return (channels + 15) / 16 * 16; }

struct Config {
    int hyper_latent;  // channels of z
    int width;         // channels of the hyper transforms
    int heads;         // of their FAT blocks
    int latent;        // channels of y
    int slices;
    int ratio;
    int depth;
    static constexpr int kFields = 7;

    int slice_channels() const { return latent / slices; }
    int inner() const { return slice_channels() * ratio; }  // of one slice in T-CA
};

// Throws Error where a configuration is impossible.
Config make_config(const int32_t* fields, int count);

// Named float32 arrays. Every array that is used goes into the fingerprint, once, in order of first
// use.
class WeightTable {
  public:
    enum class Use { fingerprinted, only_found };
    // only_found: find() may be called by several threads at once, does not look for NaN and
    // infinity, and there is no fingerprint.
    explicit WeightTable(Use use = Use::fingerprinted) : use_(use) {}
    bool only_finds() const { return use_ == Use::only_found; }
    void add(const std::string& name, const float* data, int64_t count);
    // Throws Error where it is missing, has another size or holds NaN or infinity.
    const float* find(const std::string& name, size_t count);
    void mix(const float* data, size_t count);  // into the fingerprint
    uint64_t fingerprint() const { return hash_; }

  private:
    struct Array {
        const float* data;
        size_t count;
        bool used;
    };
    const Use use_;
    std::unordered_map<std::string, Array> arrays_;
    uint64_t hash_ = 14695981039346656037ull;  // FNV-1a
};

// A product whose weights it owns.
class Packed {
  public:
    Packed() = default;
    Packed(int taps, int channels, int columns, int panel_vectors);
    // Columns [column, column + outputs) from rows first, first + step, ... of a torch weight
    // [out][in][taps].
    void fill(int column, int outputs, const float* weight, const float* bias, int first, int step);
    const PackedProduct& product() const { return product_; }
    int columns() const { return product_.columns; }
    double multiply_adds() const {
        return static_cast<double>(product_.taps) * product_.channels * outputs_;
    }

  private:
    PackedProduct product_ = {};
    int panel_vectors_ = 1;
    int outputs_ = 0;
    Floats weights_, bias_;
};

struct FatWeights {
    Packed conv1_1, qkv, proj, ffn0, ffn2, conv1_2;
    Floats norm1_weight, norm1_bias, norm2_weight, norm2_bias;
    Floats modulation;     // kernel [16][channels]
    Floats bias_table[4];  // see WindowAttention
};

struct HyperWeights {
    Packed subpel[4], upsample[4];  // by place in the 2x2 pixel shuffle
    Packed conv, gdn;
    FatWeights fat[2];
    Packed last[4];
};

struct TcaLayerWeights {
    Floats norm1_weight, norm1_bias;
    Floats encoding_weight, encoding_bias, encoding_norm_weight, encoding_norm_bias;
    Packed query, key_value, proj;
    Floats norm2_weight, norm2_bias;
    Packed fc1, fc2;
};

struct TcaSliceWeights {
    Packed lift;
    std::vector<TcaLayerWeights> layers;
    Packed entropy[3];
};

struct TcaWeights {
    Packed start, hyper_trans;
    std::vector<TcaSliceWeights> slices;
};

// What engines of one model share.
struct PackedWeights {
    HyperWeights hyper[2];  // means, scales
    TcaWeights tca;
};

// What fills in `weights`: tasks in the fingerprint's order, which may be done at once where the
// table only finds.
std::vector<std::function<void()>> load(WeightTable& table, const Config& config, int panel_vectors,
                                        PackedWeights& weights);

}  // namespace flic::exact
