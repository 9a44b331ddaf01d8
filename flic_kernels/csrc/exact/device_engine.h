// The exact engine on a device: the order of kernels for the hyper-synthesis and T-CA.
#pragma once
#include <string.h>

#include <string>
#include <utility>
#include <vector>

#include "exact/cuda_backend.h"
#include "exact/device_tca_kernels.h"
#include "exact/weights.h"
#include "include/flic_kernels.h"

namespace flic::exact::device {
namespace {

class Array {
  public:
    Array() = default;
    explicit Array(size_t count) : data_(Cuda::allocate(count)) {}
    explicit Array(const Floats& from) : Array(from.size()) {
        Cuda::upload(data_, from.get(), from.size());
    }
    Array(Array&& other) noexcept : data_(std::exchange(other.data_, nullptr)) {}
    Array& operator=(Array&& other) noexcept {
        std::swap(data_, other.data_);
        return *this;
    }
    ~Array() {
        if (data_) Cuda::release(data_);
    }
    float* get() const { return data_; }
    int* as_int() const { return reinterpret_cast<int*>(data_); }

  private:
    float* data_ = nullptr;
};

// Host memory that the queue may copy from and to.
class Staging {
  public:
    explicit Staging(size_t count) : data_(Cuda::allocate_host(count)) {}
    Staging(const Staging&) = delete;
    Staging& operator=(const Staging&) = delete;
    ~Staging() { Cuda::release_host(data_); }
    float* get() const { return data_; }

  private:
    float* const data_;
};

// Whether a kernel has put anything into a flag, which has been downloaded.
bool is_set(const float& flag) {
    int bits;
    memcpy(&bits, &flag, sizeof bits);
    return bits != 0;
}

// A packed product's weights as [tap][channel][columns]: one panel of all columns.
constexpr int kOnePanel = 1 << 12;

struct Layer {
    Layer() = default;
    explicit Layer(const Packed& p)
        : taps(p.product().taps),
          channels(p.product().channels),
          columns(p.columns()),
          weights(static_cast<size_t>(taps) * channels * columns),
          bias(columns) {
        const size_t depth = static_cast<size_t>(taps) * channels;
        Cuda::upload(weights.get(), p.product().weights, depth * columns);
        Cuda::upload(bias.get(), p.product().bias, columns);
    }
    int taps = 0, channels = 0, columns = 0;
    Array weights, bias;

    void run(const float* in, ptrdiff_t in_stride, int height, int width, float* out, int scale = 1,
             int place = 0) const {
        Cuda::launch(ProductTile{in, in_stride, height, width, taps, channels, columns,
                                 weights.get(), bias.get(), out, columns, scale, place});
    }
};

struct FatLayers {
    explicit FatLayers(const FatWeights& w)
        : conv1_1(w.conv1_1),
          qkv(w.qkv),
          proj(w.proj),
          ffn0(w.ffn0),
          ffn2(w.ffn2),
          conv1_2(w.conv1_2),
          norm1_weight(w.norm1_weight),
          norm1_bias(w.norm1_bias),
          norm2_weight(w.norm2_weight),
          norm2_bias(w.norm2_bias),
          modulation(w.modulation) {
        for (const Floats& table : w.bias_table) bias_table.emplace_back(table);
    }
    Layer conv1_1, qkv, proj, ffn0, ffn2, conv1_2;
    Array norm1_weight, norm1_bias, norm2_weight, norm2_bias, modulation;
    std::vector<Array> bias_table;
};

struct HyperLayers {
    explicit HyperLayers(const HyperWeights& w) : conv(w.conv), gdn(w.gdn) {
        for (int place = 0; place < 4; ++place) {
            subpel.emplace_back(w.subpel[place]);
            upsample.emplace_back(w.upsample[place]);
            last.emplace_back(w.last[place]);
        }
        for (const FatWeights& f : w.fat) fat.emplace_back(f);
    }
    std::vector<Layer> subpel, upsample, last;
    Layer conv, gdn;
    std::vector<FatLayers> fat;
};

struct TcaLayers {
    explicit TcaLayers(const TcaLayerWeights& w)
        : norm1_weight(w.norm1_weight),
          norm1_bias(w.norm1_bias),
          encoding_weight(w.encoding_weight),
          encoding_bias(w.encoding_bias),
          encoding_norm_weight(w.encoding_norm_weight),
          encoding_norm_bias(w.encoding_norm_bias),
          norm2_weight(w.norm2_weight),
          norm2_bias(w.norm2_bias),
          query(w.query),
          key_value(w.key_value),
          proj(w.proj),
          fc1(w.fc1),
          fc2(w.fc2) {}
    Array norm1_weight, norm1_bias, encoding_weight, encoding_bias, encoding_norm_weight,
        encoding_norm_bias, norm2_weight, norm2_bias;
    Layer query, key_value, proj, fc1, fc2;
};

struct SliceLayers {
    explicit SliceLayers(const TcaSliceWeights& w) : lift(w.lift) {
        for (const TcaLayerWeights& l : w.layers) layers.emplace_back(l);
        for (const Packed& p : w.entropy) entropy.emplace_back(p);
    }
    Layer lift;
    std::vector<TcaLayers> layers;
    std::vector<Layer> entropy;
};

class DeviceEngine {
  public:
    DeviceEngine(const Config& c, WeightTable& table) : config(c) {
        PackedWeights weights;
        for (const auto& task : load(table, c, kOnePanel, weights)) task();
        for (const HyperWeights& w : weights.hyper) hyper_.emplace_back(w);
        const TcaWeights& w = weights.tca;
        start = Layer(w.start);
        hyper_trans = Layer(w.hyper_trans);
        for (const TcaSliceWeights& s : w.slices) slices.emplace_back(s);
        fingerprint = table.fingerprint();
        Cuda::wait();
    }

    // Means and scales [latent][4 height][4 width], on the device.
    struct HyperFeatures {
        Array means, scales;
    };

    // As Engine::hyper, from a host pointer.
    HyperFeatures hyper(const float* z_hat, int height, int width) {
        const int pixels = height * width, z_stride = padded(config.hyper_latent);
        Array planes(static_cast<size_t>(config.hyper_latent) * pixels);
        Array z(static_cast<size_t>(z_stride) * pixels);
        Cuda::upload(planes.get(), z_hat, static_cast<size_t>(config.hyper_latent) * pixels);
        Cuda::launch(FromPlanes{planes.get(), config.hyper_latent, pixels, z.get(), z_stride, 0});
        float bad[2];
        HyperFeatures found = {synthesis(hyper_[0], z.get(), height, width, &bad[0]),
                               synthesis(hyper_[1], z.get(), height, width, &bad[1])};
        Cuda::wait();
        if (is_set(bad[0]) || is_set(bad[1]))
            throw Error(FLIC_NOT_FINITE, "the hyper-synthesis gave NaN or infinity");
        return found;
    }

    const Config config;
    Layer start, hyper_trans;
    std::vector<SliceLayers> slices;
    uint64_t fingerprint = 0;

  private:
    Array synthesis(const HyperLayers& w, const float* z, int height, int width, float* flag);
    void fat_block(const FatLayers& w, bool shifted, int height, int width, float* x);

    std::vector<HyperLayers> hyper_;  // means, scales
};

// flag: the host's, set before the queue is empty.
Array DeviceEngine::synthesis(const HyperLayers& w, const float* z, int height, int width,
                              float* flag) {
    const int stride = padded(config.width), z_stride = padded(config.hyper_latent);
    const int high = 2 * height, wide = 2 * width;
    const ptrdiff_t size = static_cast<ptrdiff_t>(high) * wide * stride;
    Array a(size), b(size), norm(size), identity(size);
    for (int place = 0; place < 4; ++place) {
        w.subpel[place].run(z, z_stride, height, width, a.get(), 2, place);
        w.upsample[place].run(z, z_stride, height, width, identity.get(), 2, place);
    }
    Cuda::launch(Elementwise<Map::leaky_relu>{a.get(), nullptr, a.get(), size});
    w.conv.run(a.get(), stride, high, wide, b.get());
    Cuda::launch(Elementwise<Map::square>{b.get(), nullptr, a.get(), size});
    w.gdn.run(a.get(), stride, high, wide, norm.get());
    Cuda::launch(InverseGdn{b.get(), norm.get(), identity.get(), a.get(), size});
    for (int f = 0; f < 2; ++f) fat_block(w.fat[f], f == 1, high, wide, a.get());

    const int pixels = 4 * high * wide, columns = w.last[0].columns;
    Array result(static_cast<size_t>(pixels) * columns), bad(1);
    Array planes(static_cast<size_t>(pixels) * config.latent);
    for (int place = 0; place < 4; ++place) {
        w.last[place].run(a.get(), stride, high, wide, result.get(), 2, place);
    }
    Cuda::launch(
        ToPlanes{result.get(), columns, 0, 1, config.latent, pixels, planes.get(), bad.as_int()});
    Cuda::download(flag, bad.get(), 1);
    return planes;
}

void DeviceEngine::fat_block(const FatLayers& w, bool shifted, int height, int width, float* x) {
    const int channels = config.width, stride = padded(channels), tokens = height * width;
    const ptrdiff_t size = static_cast<ptrdiff_t>(tokens) * stride;
    const int hidden_columns = w.ffn0.columns;
    Array t(size), part(size), attended(size);
    Array qkv(static_cast<size_t>(tokens) * w.qkv.columns);
    Array hidden(static_cast<size_t>(tokens) * hidden_columns);
    w.conv1_1.run(x, stride, height, width, t.get());
    Cuda::launch(LayerNorm{t.get(), tokens, channels, stride, w.norm1_weight.get(),
                           w.norm1_bias.get(), part.get()});
    w.qkv.run(part.get(), stride, height, width, qkv.get());
    WindowAttend attend = {};
    attend.qkv = qkv.get();
    attend.qkv_stride = w.qkv.columns;
    attend.height = height;
    attend.width = width;
    attend.channels = channels;
    attend.heads = config.heads;
    attend.shifted = shifted;
    attend.scale = 1.0f / __builtin_sqrtf(static_cast<float>(channels / config.heads));
    for (int b = 0; b < 4; ++b) attend.bias[b] = w.bias_table[b].get();
    attend.bias_stride = padded(config.heads / 4);
    attend.out = attended.get();
    attend.out_stride = stride;
    Cuda::launch(attend);
    w.proj.run(attended.get(), stride, height, width, part.get());
    Cuda::launch(Elementwise<Map::add>{t.get(), part.get(), t.get(), size});
    Cuda::launch(LayerNorm{t.get(), tokens, channels, stride, w.norm2_weight.get(),
                           w.norm2_bias.get(), part.get()});
    w.ffn0.run(part.get(), stride, height, width, hidden.get());
    Cuda::launch(Elementwise<Map::gelu>{hidden.get(), nullptr, hidden.get(),
                                        static_cast<ptrdiff_t>(tokens) * hidden_columns});
    w.ffn2.run(hidden.get(), hidden_columns, height, width, part.get());
    Cuda::launch(Modulate{part.get(), height, width, stride, w.modulation.get(), t.get()});
    w.conv1_2.run(t.get(), stride, height, width, part.get());
    Cuda::launch(Elementwise<Map::add>{x, part.get(), x, size});
}

}  // namespace
}  // namespace flic::exact::device
