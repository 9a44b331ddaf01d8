// From the published state dict's names to packed and folded weights (docs/exact.md, "Weights").
#include <string.h>

#include <utility>

#include "exact/weights.h"
#include "simd/soft_fma.h"

namespace flic::exact {
namespace {

// Reads one network's weights, whose names begin with a prefix.
class Loader {
  public:
    Loader(WeightTable& table, std::string prefix, int panel_vectors)
        : table_(table), prefix_(std::move(prefix)), panel_vectors_(panel_vectors) {}

    Loader under(const std::string& prefix) const {
        return {table_, prefix_ + prefix, panel_vectors_};
    }

    const float* raw(const std::string& name, size_t count) {
        return table_.find(prefix_ + name, count);
    }

    // Entries [first, first + count) of a vector of `total`.
    Floats vector(const std::string& name, int total, int first, int count) {
        Floats out(padded(count));
        memcpy(out.get(), raw(name, total) + first, count * sizeof(float));
        return out;
    }
    Floats vector(const std::string& name, int count) { return vector(name, count, 0, count); }

    // Group `group` of a convolution or Linear layer with `outputs` outputs a group.
    Packed group(const std::string& name, int taps, int channels, int outputs, int groups,
                 int group) {
        Packed out(taps, channels, outputs, panel_vectors_);
        fill_group(out, 0, name, outputs, groups, group);
        return out;
    }
    void fill_group(Packed& out, int column, const std::string& name, int outputs, int groups,
                    int group) {
        const size_t total = static_cast<size_t>(groups) * outputs;
        const size_t depth = static_cast<size_t>(out.product().taps) * out.product().channels;
        const float* const weight = raw(name + ".weight", total * depth);
        out.fill(column, outputs, weight, raw(name + ".bias", total), group * outputs, 1);
    }
    Packed layer(const std::string& name, int taps, int channels, int outputs) {
        return group(name, taps, channels, outputs, 1, 0);
    }
    Packed layer_without_bias(const std::string& name, int channels, int outputs) {
        Packed out(1, channels, outputs, panel_vectors_);
        out.fill(0, outputs, raw(name + ".weight", static_cast<size_t>(channels) * outputs),
                 nullptr, 0, 1);
        return out;
    }

    // A sub-pixel convolution as four: place 2 i + j of the pixel shuffle takes every fourth
    // output.
    void subpel(const std::string& name, int channels, int outputs, Packed (&out)[4]) {
        const size_t total = 4 * static_cast<size_t>(outputs);
        const float* const weight = raw(name + ".weight", total * channels * 9);
        const float* const bias = raw(name + ".bias", total);
        for (int place = 0; place < 4; ++place) {
            out[place] = Packed(9, channels, outputs, panel_vectors_);
            out[place].fill(0, outputs, weight, bias, place, 4);
        }
    }

    Packed inverse_gdn(int channels) {
        const Floats gamma = reparametrised("gamma", static_cast<size_t>(channels) * channels);
        const Floats beta = reparametrised("beta", channels);
        Packed out(1, channels, channels, panel_vectors_);
        out.fill(0, channels, gamma.get(), beta.get(), 0, 1);
        return out;
    }

    Floats modulation_kernel(const std::string& name, int channels);

    // [(2 Wh - 1)(2 Ww - 1)][heads], each row padded to a multiple of 16.
    Floats bias_table(const std::string& name, int window_height, int window_width, int heads) {
        const int rows = (2 * window_height - 1) * (2 * window_width - 1);
        const float* const from = raw(name, static_cast<size_t>(rows) * heads);
        Floats out(static_cast<size_t>(rows) * padded(heads));
        for (int r = 0; r < rows; ++r) {
            memcpy(out.get() + static_cast<size_t>(r) * padded(heads),
                   from + static_cast<size_t>(r) * heads, heads * sizeof(float));
        }
        return out;
    }

  private:
    // max(x, bound)^2 - pedestal, in one rounding.
    Floats reparametrised(const std::string& name, size_t count) {
        const float pedestal = *raw(name + "_reparam.pedestal", 1);
        const float bound = *raw(name + "_reparam.lower_bound.bound", 1);
        const float* const x = raw(name, count);
        Floats out(count);
        for (size_t i = 0; i < count; ++i) {
            const float v = x[i] > bound ? x[i] : bound;
            out[i] = soft_fma(v, v, -pedestal);
        }
        table_.mix(out.get(), count);
        return out;
    }

    WeightTable& table_;
    std::string prefix_;
    int panel_vectors_;
};

struct Complex {
    float re, im;
};

// z * i^quarters
Complex turned(Complex z, int quarters) {
    switch (quarters & 3) {
        case 1: return {-z.im, z.re};
        case 2: return {-z.re, -z.im};
        case 3: return {z.im, -z.re};
        default: return z;
    }
}

// The circular convolution kernel [16][channels] that equals the modulation: irfft2 of the weight
// [4][3][channels][2].
Floats Loader::modulation_kernel(const std::string& name, int channels) {
    const float* const weight = raw(name, static_cast<size_t>(kTile) * 3 * channels * 2);
    const int stride = padded(channels);
    Floats kernel(static_cast<size_t>(kTileTokens) * stride);
    for (int c = 0; c < channels; ++c) {
        for (int y = 0; y < kTile; ++y) {
            Complex column[3];  // inverse transform over the rows
            for (int f = 0; f < 3; ++f) {
                for (int u = 0; u < kTile; ++u) {
                    const float* const w =
                        weight + (static_cast<size_t>(u * 3 + f) * channels + c) * 2;
                    const Complex term = turned({w[0], w[1]}, u * y);
                    column[f] =
                        u == 0 ? term : Complex{column[f].re + term.re, column[f].im + term.im};
                }
            }
            for (int x = 0; x < kTile; ++x) {
                const float even = column[0].re + (x & 1 ? -column[2].re : column[2].re);
                const float odd = turned(column[1], x).re;
                kernel[static_cast<size_t>(y * kTile + x) * stride + c] =
                    (even + (odd + odd)) * 0.0625f;
            }
        }
    }
    table_.mix(kernel.get(), kernel.size());
    return kernel;
}

FatWeights load_fat(Loader loader, int width, int heads) {
    FatWeights w;
    w.conv1_1 = loader.layer("conv1_1", 1, width, width);
    w.conv1_2 = loader.layer("conv1_2", 1, width, width);
    Loader block = loader.under("trans_block.");
    w.norm1_weight = block.vector("norm1.weight", width);
    w.norm1_bias = block.vector("norm1.bias", width);
    w.qkv = block.layer_without_bias("qkv", width, 3 * width);
    const int window_height[4] = {4, 1, 1, 4}, window_width[4] = {4, 1, 4, 1};
    for (int b = 0; b < 4; ++b) {
        w.bias_table[b] =
            block.bias_table("attns." + std::to_string(b) + ".relative_position_bias_table",
                             window_height[b], window_width[b], heads / 4);
    }
    w.proj = block.layer("proj", 1, width, width);
    w.norm2_weight = block.vector("norm2.weight", width);
    w.norm2_bias = block.vector("norm2.bias", width);
    w.ffn0 = block.layer("ffn.0", 1, width, 4 * width);
    w.ffn2 = block.layer("ffn.2", 1, 4 * width, width);
    w.modulation = block.modulation_kernel("fm.complex_weight", width);
    return w;
}

// Slice i of a depthwise convolution's weights [slices * inner][9] as [9][inner].
Floats depthwise_weights(Loader& loader, const std::string& name, int slices, int inner, int i) {
    const float* const from = loader.raw(name, static_cast<size_t>(slices) * inner * 9);
    Floats out(9 * static_cast<size_t>(inner));
    for (int c = 0; c < inner; ++c) {
        for (int t = 0; t < 9; ++t)
            out[static_cast<size_t>(t) * inner + c] =
                from[(static_cast<size_t>(i) * inner + c) * 9 + t];
    }
    return out;
}

TcaLayerWeights load_tca_layer(Loader loader, const Config& config, int panel_vectors, int slice) {
    const int slices = config.slices, inner = config.inner(), total = slices * inner,
              first = slice * inner;
    const auto vector = [&](const char* name) { return loader.vector(name, total, first, inner); };
    const auto group = [&](const char* name) {
        return loader.group(name, 1, inner, inner, slices, slice);
    };
    TcaLayerWeights w;
    w.norm1_weight = vector("norm1.weight");
    w.norm1_bias = vector("norm1.bias");
    w.encoding_weight = depthwise_weights(loader, "cpe.0.proj.weight", slices, inner, slice);
    w.encoding_bias = vector("cpe.0.proj.bias");
    w.encoding_norm_weight = vector("cpe.0.norm.weight");
    w.encoding_norm_bias = vector("cpe.0.norm.bias");
    w.query = group("q1");
    w.key_value = Packed(1, inner, 2 * inner, panel_vectors);
    loader.fill_group(w.key_value, 0, "k1", inner, slices, slice);
    loader.fill_group(w.key_value, inner, "v1", inner, slices, slice);
    w.proj = group("attn.proj");
    w.norm2_weight = vector("norm2.weight");
    w.norm2_bias = vector("norm2.bias");
    w.fc1 = group("mlp.fc1");
    w.fc2 = group("mlp.fc2");
    return w;
}

using Tasks = std::vector<std::function<void()>>;

void load_hyper(WeightTable& table, const Config& config, const std::string& prefix,
                int panel_vectors, HyperWeights& w, Tasks& tasks) {
    const int width = config.width;
    const Loader start(table, prefix + ".", panel_vectors);
    tasks.push_back([=, &w] {
        Loader loader = start;
        loader.subpel("0.subpel_conv.0", config.hyper_latent, width, w.subpel);
        w.conv = loader.layer("0.conv", 9, width, width);
        w.gdn = loader.under("0.igdn.").inverse_gdn(width);
        loader.subpel("0.upsample.0", config.hyper_latent, width, w.upsample);
        w.fat[0] = load_fat(loader.under("1."), width, config.heads);
        w.fat[1] = load_fat(loader.under("2."), width, config.heads);
        loader.subpel("3.0", width, config.latent, w.last);
    });
}

void load_tca(WeightTable& table, const Config& config, int panel_vectors, TcaWeights& w,
              Tasks& tasks) {
    const int slices = config.slices, size = config.slice_channels(), latent = config.latent;
    const Loader start(table, "tca.", panel_vectors);
    w.slices.resize(slices);
    tasks.push_back([=, &w] {
        Loader loader = start;
        w.start = loader.layer("TCA.start_token_from_hyperprior", 9, 2 * latent, size);
        w.hyper_trans = loader.layer("hyper_trans", 1, 2 * latent, 2 * latent);
    });
    for (int i = 0; i < slices; ++i) {
        TcaSliceWeights& s = w.slices[i];
        s.layers.resize(config.depth);
        tasks.push_back([=, &s] {
            Loader loader = start;
            s.lift = loader.group("TCA.lift", 9, size, config.inner(), slices, i);
        });
        for (int l = 0; l < config.depth; ++l) {
            tasks.push_back([=, &s] {
                const Loader layer = start.under("TCA.layers." + std::to_string(l) + ".");
                s.layers[l] = load_tca_layer(layer, config, panel_vectors, i);
            });
        }
        tasks.push_back([=, &s] {
            Loader loader = start;
            const int channels[4] = {(config.ratio + 2) * size, 2 * size, 3 * size, 3 * size};
            for (int n = 0; n < 3; ++n) {
                s.entropy[n] = loader.group("entropy_parameters_net." + std::to_string(2 * n), 9,
                                            channels[n], channels[n + 1], slices, i);
            }
        });
    }
}

}  // namespace

Tasks load(WeightTable& table, const Config& config, int panel_vectors, PackedWeights& weights) {
    Tasks tasks;
    load_hyper(table, config, "h_mean_s", panel_vectors, weights.hyper[0], tasks);
    load_hyper(table, config, "h_scale_s", panel_vectors, weights.hyper[1], tasks);
    load_tca(table, config, panel_vectors, weights.tca, tasks);
    return tasks;
}

}  // namespace flic::exact
