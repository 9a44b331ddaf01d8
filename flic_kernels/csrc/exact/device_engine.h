// The exact engine on a device: the order of kernels for the hyper-synthesis and T-CA.
//
// Backend gives memory and a queue of work, all static and throwing Error:
//   float* allocate(size_t) (zeroed), void release(float*), and allocate_host, release_host;
//   void upload(float* to, const float* from, size_t) and download, from and to the host;
//   void clear(float*, size_t); template void launch(const Kernel&): one call a thread;
//   void wait(), until all of this is done;
//   class Graph with template void run(const Body&): queues what body() queues, which must be the
//   same each time, so that body need not be called again.
#pragma once
#include <string.h>

#include <string>
#include <utility>
#include <vector>

#include "../status.h"
#include "device_tca_kernels.h"
#include "weights.h"

namespace flic::exact::device {

template <class Backend>
class Array {
  public:
    Array() = default;
    explicit Array(size_t count) : data_(Backend::allocate(count)) {}
    explicit Array(const Floats& from) : Array(from.size()) {
        Backend::upload(data_, from.get(), from.size());
    }
    Array(Array&& other) noexcept : data_(std::exchange(other.data_, nullptr)) {}
    Array& operator=(Array&& other) noexcept {
        std::swap(data_, other.data_);
        return *this;
    }
    ~Array() {
        if (data_) Backend::release(data_);
    }
    float* get() const { return data_; }
    int* as_int() const { return reinterpret_cast<int*>(data_); }

  private:
    float* data_ = nullptr;
};

// Host memory that the queue may copy from and to.
template <class Backend>
class Staging {
  public:
    explicit Staging(size_t count) : data_(Backend::allocate_host(count)) {}
    Staging(const Staging&) = delete;
    Staging& operator=(const Staging&) = delete;
    ~Staging() { Backend::release_host(data_); }
    float* get() const { return data_; }

  private:
    float* const data_;
};

// Whether a kernel has put anything into a flag, which has been downloaded.
inline bool is_set(const float& flag) {
    int bits;
    memcpy(&bits, &flag, sizeof bits);
    return bits != 0;
}

// A packed product's weights as [tap][channel][columns]: one panel of all columns.
constexpr int kOnePanel = 1 << 12;

template <class Backend>
struct Layer {
    Layer() = default;
    explicit Layer(const Packed& p)
        : taps(p.product().taps),
          channels(p.product().channels),
          columns(p.columns()),
          weights(static_cast<size_t>(taps) * channels * columns),
          bias(columns) {
        const size_t depth = static_cast<size_t>(taps) * channels;
        Backend::upload(weights.get(), p.product().weights, depth * columns);
        Backend::upload(bias.get(), p.product().bias, columns);
    }
    int taps = 0, channels = 0, columns = 0;
    Array<Backend> weights, bias;

    void run(const float* in, ptrdiff_t in_stride, int height, int width, float* out, int scale = 1,
             int place = 0) const {
        Backend::launch(ProductTile{in, in_stride, height, width, taps, channels, columns,
                                    weights.get(), bias.get(), out, columns, scale, place});
    }
};

template <class Backend>
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
    Layer<Backend> conv1_1, qkv, proj, ffn0, ffn2, conv1_2;
    Array<Backend> norm1_weight, norm1_bias, norm2_weight, norm2_bias, modulation;
    std::vector<Array<Backend>> bias_table;
};

template <class Backend>
struct HyperLayers {
    explicit HyperLayers(const HyperWeights& w) : conv(w.conv), gdn(w.gdn) {
        for (int place = 0; place < 4; ++place) {
            subpel.emplace_back(w.subpel[place]);
            upsample.emplace_back(w.upsample[place]);
            last.emplace_back(w.last[place]);
        }
        for (const FatWeights& f : w.fat) fat.emplace_back(f);
    }
    std::vector<Layer<Backend>> subpel, upsample, last;
    Layer<Backend> conv, gdn;
    std::vector<FatLayers<Backend>> fat;
};

template <class Backend>
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
    Array<Backend> norm1_weight, norm1_bias, encoding_weight, encoding_bias, encoding_norm_weight,
        encoding_norm_bias, norm2_weight, norm2_bias;
    Layer<Backend> query, key_value, proj, fc1, fc2;
};

template <class Backend>
struct SliceLayers {
    explicit SliceLayers(const TcaSliceWeights& w) : lift(w.lift) {
        for (const TcaLayerWeights& l : w.layers) layers.emplace_back(l);
        for (const Packed& p : w.entropy) entropy.emplace_back(p);
    }
    Layer<Backend> lift;
    std::vector<TcaLayers<Backend>> layers;
    std::vector<Layer<Backend>> entropy;
};

template <class Backend>
class DeviceEngine {
  public:
    DeviceEngine(const Config& c, WeightTable& table)
        : config(c),
          hyper_{HyperLayers<Backend>(load_hyper(table, c, "h_mean_s", kOnePanel)),
                 HyperLayers<Backend>(load_hyper(table, c, "h_scale_s", kOnePanel))} {
        const TcaWeights w = load_tca(table, c, kOnePanel);
        start = Layer<Backend>(w.start);
        hyper_trans = Layer<Backend>(w.hyper_trans);
        for (const TcaSliceWeights& s : w.slices) slices.emplace_back(s);
        fingerprint = table.fingerprint();
        Backend::wait();
    }

    // As Engine::hyper; host pointers.
    void hyper(const float* z_hat, int height, int width, float* means, float* scales) {
        const int pixels = height * width, z_stride = padded(config.hyper_latent);
        Array<Backend> planes(static_cast<size_t>(config.hyper_latent) * pixels);
        Array<Backend> z(static_cast<size_t>(z_stride) * pixels);
        Backend::upload(planes.get(), z_hat, static_cast<size_t>(config.hyper_latent) * pixels);
        Backend::launch(
            FromPlanes{planes.get(), config.hyper_latent, pixels, z.get(), z_stride, 0});
        float bad[2];
        synthesis(hyper_[0], z.get(), height, width, means, &bad[0]);
        synthesis(hyper_[1], z.get(), height, width, scales, &bad[1]);
        Backend::wait();
        if (is_set(bad[0]) || is_set(bad[1]))
            throw Error(FLIC_NOT_FINITE, "the hyper-synthesis gave NaN or infinity");
    }

    const Config config;
    Layer<Backend> start, hyper_trans;
    std::vector<SliceLayers<Backend>> slices;
    uint64_t fingerprint = 0;

  private:
    void synthesis(const HyperLayers<Backend>& w, const float* z, int height, int width, float* out,
                   float* flag);
    void fat_block(const FatLayers<Backend>& w, bool shifted, int height, int width, float* x);

    HyperLayers<Backend> hyper_[2];
};

template <class Backend>
void DeviceEngine<Backend>::synthesis(const HyperLayers<Backend>& w, const float* z, int height,
                                      int width, float* out, float* flag) {
    const int stride = padded(config.width), z_stride = padded(config.hyper_latent);
    const int high = 2 * height, wide = 2 * width;
    const ptrdiff_t size = static_cast<ptrdiff_t>(high) * wide * stride;
    Array<Backend> a(size), b(size), norm(size), identity(size);
    for (int place = 0; place < 4; ++place) {
        w.subpel[place].run(z, z_stride, height, width, a.get(), 2, place);
        w.upsample[place].run(z, z_stride, height, width, identity.get(), 2, place);
    }
    Backend::launch(Elementwise<Map::leaky_relu>{a.get(), nullptr, a.get(), size});
    w.conv.run(a.get(), stride, high, wide, b.get());
    Backend::launch(Elementwise<Map::square>{b.get(), nullptr, a.get(), size});
    w.gdn.run(a.get(), stride, high, wide, norm.get());
    Backend::launch(InverseGdn{b.get(), norm.get(), identity.get(), a.get(), size});
    for (int f = 0; f < 2; ++f) fat_block(w.fat[f], f == 1, high, wide, a.get());

    const int pixels = 4 * high * wide, columns = w.last[0].columns;
    Array<Backend> result(static_cast<size_t>(pixels) * columns), bad(1);
    Array<Backend> planes(static_cast<size_t>(pixels) * config.latent);
    for (int place = 0; place < 4; ++place) {
        w.last[place].run(a.get(), stride, high, wide, result.get(), 2, place);
    }
    Backend::launch(
        ToPlanes{result.get(), columns, 0, 1, config.latent, pixels, planes.get(), bad.as_int()});
    Backend::download(out, planes.get(), static_cast<size_t>(pixels) * config.latent);
    Backend::download(flag, bad.get(), 1);
}

template <class Backend>
void DeviceEngine<Backend>::fat_block(const FatLayers<Backend>& w, bool shifted, int height,
                                      int width, float* x) {
    const int channels = config.width, stride = padded(channels), tokens = height * width;
    const ptrdiff_t size = static_cast<ptrdiff_t>(tokens) * stride;
    const int hidden_columns = w.ffn0.columns;
    Array<Backend> t(size), part(size), attended(size);
    Array<Backend> qkv(static_cast<size_t>(tokens) * w.qkv.columns);
    Array<Backend> hidden(static_cast<size_t>(tokens) * hidden_columns);
    w.conv1_1.run(x, stride, height, width, t.get());
    Backend::launch(LayerNorm{t.get(), tokens, channels, stride, w.norm1_weight.get(),
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
    Backend::launch(attend);
    w.proj.run(attended.get(), stride, height, width, part.get());
    Backend::launch(Elementwise<Map::add>{t.get(), part.get(), t.get(), size});
    Backend::launch(LayerNorm{t.get(), tokens, channels, stride, w.norm2_weight.get(),
                              w.norm2_bias.get(), part.get()});
    w.ffn0.run(part.get(), stride, height, width, hidden.get());
    Backend::launch(Elementwise<Map::gelu>{hidden.get(), nullptr, hidden.get(),
                                           static_cast<ptrdiff_t>(tokens) * hidden_columns});
    w.ffn2.run(hidden.get(), hidden_columns, height, width, part.get());
    Backend::launch(Modulate{part.get(), height, width, stride, w.modulation.get(), t.get()});
    w.conv1_2.run(t.get(), stride, height, width, part.get());
    Backend::launch(Elementwise<Map::add>{x, part.get(), x, size});
}

}  // namespace flic::exact::device
