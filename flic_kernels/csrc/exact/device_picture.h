// One picture's T-CA on a device, slice by slice; the twin of tca.cpp.
//
// A slice's work uses the same memory for every picture, so that its launches are captured once.
#pragma once
#include <algorithm>

#include "exact/device_engine.h"

namespace flic::exact::device {
namespace {

class DevicePicture {
  public:
    DevicePicture(DeviceEngine& engine, int height, int width)
        : engine_(engine),
          config_(engine.config),
          grid_{height, width},
          pixels_(static_cast<size_t>(height) * width),
          size_(config_.slice_channels()),
          inner_(config_.inner()),
          next_(config_.slices),
          past_(pixels_ * stride(size_)),
          side_(pixels_ * stride(2 * config_.latent)),
          u_(pixels_ * inner_),
          x_(pixels_ * inner_),
          y_(pixels_ * inner_),
          query_(pixels_ * inner_),
          sums_(grid_.windows() * static_cast<size_t>(inner_)),
          mean_(grid_.windows()),
          m2_(grid_.windows()),
          merged_(2),
          key_value_(static_cast<size_t>(config_.depth) * config_.slices * 2 * pixels_ * inner_),
          scores_(static_cast<size_t>(grid_.windows()) * inner_ * config_.slices *
                  (inner_ / kHeads)),
          denominators_(grid_.windows() * static_cast<size_t>(inner_)),
          features_(pixels_ * stride((config_.ratio + 2) * size_)),
          hidden1_(pixels_ * stride(2 * size_)),
          hidden2_(pixels_ * stride(3 * size_)),
          out_(pixels_ * stride(3 * size_)),
          previous_(slice_values()),
          results_(3 * slice_values() + 1),
          host_previous_(slice_values()),
          host_results_(3 * slice_values() + 1),
          graphs_(config_.slices) {}

    int height() const { return grid_.height; }
    int width() const { return grid_.width; }

    // A new picture, as Picture's constructor; host pointers.
    void begin(const float* means, const float* scales) {
        const size_t values = config_.latent * pixels_;
        Array on_device[2];
        for (int part = 0; part < 2; ++part) {
            on_device[part] = Array(values);
            Cuda::upload(on_device[part].get(), part ? scales : means, values);
        }
        begin(on_device[0], on_device[1]);
    }

    void begin(const Array& means, const Array& scales) {
        const int latent = config_.latent;
        Array hyper(pixels_ * stride(2 * latent));
        for (int part = 0; part < 2; ++part) {
            Cuda::launch(FromPlanes{(part ? scales : means).get(), latent,
                                    static_cast<int>(pixels_), hyper.get(), padded(2 * latent),
                                    part * latent});
        }
        engine_.start.run(hyper.get(), padded(2 * latent), height(), width(), past_.get());
        engine_.hyper_trans.run(hyper.get(), padded(2 * latent), height(), width(), side_.get());
        Cuda::clear(results_.get() + 3 * slice_values(), 1);
        Cuda::wait();
        next_ = 0;
    }

    void slice(int i, const float* previous, float* means, float* scales, float* corrections) {
        if (i != next_ || i >= config_.slices)
            throw Error(FLIC_BAD_ARGUMENT, "slices must be asked for in order");
        if (i > 0 && !previous) throw Error(FLIC_BAD_ARGUMENT, "the previous slice is missing");
        next_ = config_.slices;  // nothing follows an error
        const size_t values = slice_values();
        if (i > 0) std::copy(previous, previous + values, host_previous_.get());
        graphs_[i].run([&] { queue(i); });
        Cuda::wait();
        const float* const results = host_results_.get();
        if (is_set(results[3 * values])) throw Error(FLIC_NOT_FINITE, "T-CA gave NaN or infinity");
        std::copy(results, results + values, means);
        std::copy(results + values, results + 2 * values, scales);
        std::copy(results + 2 * values, results + 3 * values, corrections);
        next_ = i + 1;
    }

  private:
    static size_t stride(int channels) { return static_cast<size_t>(padded(channels)); }
    ptrdiff_t values() const { return static_cast<ptrdiff_t>(pixels_) * inner_; }
    size_t slice_values() const { return size_ * pixels_; }
    int* bad() const { return results_.as_int() + 3 * slice_values(); }

    // Slice i from host_previous_ to host_results_.
    void queue(int i) {
        const size_t values = slice_values();
        if (i > 0) {
            Cuda::upload(previous_.get(), host_previous_.get(), values);
            Cuda::launch(FromPlanes{previous_.get(), size_, static_cast<int>(pixels_), past_.get(),
                                    padded(size_), 0});
        }
        const SliceLayers& w = engine_.slices[i];
        w.lift.run(past_.get(), padded(size_), height(), width(), u_.get());
        for (int l = 0; l < config_.depth; ++l) {
            attention(w.layers[l], l, i);
            mlp(w.layers[l]);
        }
        entropy_parameters(w, i);
        for (int part = 0; part < 3; ++part) {
            Cuda::launch(ToPlanes{out_.get(), padded(3 * size_), part, 3, size_,
                                  static_cast<int>(pixels_), results_.get() + part * values,
                                  bad()});
        }
        Cuda::download(host_results_.get(), results_.get(), 3 * values + 1);
    }

    // Of each window of x, into mean_ and m2_.
    void moments(const float* x) {
        Cuda::launch(ColumnSums{grid_, x, inner_, nullptr, sums_.get()});
        Cuda::launch(WindowSum{grid_.windows(), inner_, sums_.get(), true, mean_.get()});
        Cuda::launch(ColumnSums{grid_, x, inner_, mean_.get(), sums_.get()});
        Cuda::launch(WindowSum{grid_.windows(), inner_, sums_.get(), false, m2_.get()});
    }

    void dense(const Layer& layer, const float* in, float* out) {
        layer.run(in, inner_, height(), width(), out);
    }

    // x_ is w of docs/exact.md; y_ takes what comes of it.
    void attention(const TcaLayers& w, int layer, int slice) {
        moments(u_.get());
        Cuda::launch(Normalise{grid_, u_.get(), inner_, mean_.get(), m2_.get(), false,
                               w.norm1_weight.get(), w.norm1_bias.get(), nullptr, x_.get()});
        Cuda::launch(Depthwise{grid_, x_.get(), inner_, w.encoding_weight.get(),
                               w.encoding_bias.get(), y_.get()});
        moments(y_.get());
        Cuda::launch(Normalise{grid_, y_.get(), inner_, mean_.get(), m2_.get(), false,
                               w.encoding_norm_weight.get(), w.encoding_norm_bias.get(), x_.get(),
                               x_.get()});
        dense(w.query, x_.get(), query_.get());
        const ptrdiff_t slice_stride = 2 * values();
        float* const cache = key_value_.get() + layer * config_.slices * slice_stride;
        dense(w.key_value, x_.get(), cache + slice * slice_stride);
        const float scale =
            1.0f / __builtin_sqrtf(static_cast<float>(config_.slices * (inner_ / kHeads)));
        const Attention a = {grid_,        inner_, slice + 1,     query_.get(),        cache,
                             slice_stride, scale,  scores_.get(), denominators_.get(), y_.get()};
        Cuda::launch(AttentionScores{a});
        Cuda::launch(AttentionSoftmax{a});
        Cuda::launch(AttentionValues{a});
        dense(w.proj, y_.get(), x_.get());
        Cuda::launch(Elementwise<Map::add>{u_.get(), x_.get(), u_.get(), values()});
        moments(u_.get());
        Cuda::launch(MergeMoments{grid_, inner_, mean_.get(), m2_.get(), merged_.get(), bad()});
    }

    void mlp(const TcaLayers& w) {
        Cuda::launch(Normalise{grid_, u_.get(), inner_, merged_.get(), merged_.get() + 1, true,
                               w.norm2_weight.get(), w.norm2_bias.get(), nullptr, x_.get()});
        dense(w.fc1, x_.get(), y_.get());
        Cuda::launch(Elementwise<Map::gelu>{y_.get(), nullptr, y_.get(), values()});
        dense(w.fc2, y_.get(), x_.get());
        Cuda::launch(Elementwise<Map::add>{u_.get(), x_.get(), u_.get(), values()});
    }

    void entropy_parameters(const SliceLayers& w, int slice) {
        const int in = padded((config_.ratio + 2) * size_), middle = padded(2 * size_),
                  out = padded(3 * size_);
        const ptrdiff_t pixels = static_cast<ptrdiff_t>(pixels_);
        Cuda::launch(Interleave{u_.get(), side_.get(), padded(2 * config_.latent),
                                2 * slice * size_, size_, config_.ratio, static_cast<int>(pixels_),
                                features_.get(), in});
        w.entropy[0].run(features_.get(), in, height(), width(), hidden1_.get());
        Cuda::launch(
            Elementwise<Map::gelu>{hidden1_.get(), nullptr, hidden1_.get(), pixels * middle});
        w.entropy[1].run(hidden1_.get(), middle, height(), width(), hidden2_.get());
        Cuda::launch(Elementwise<Map::gelu>{hidden2_.get(), nullptr, hidden2_.get(), pixels * out});
        w.entropy[2].run(hidden2_.get(), out, height(), width(), out_.get());
    }

    DeviceEngine& engine_;
    const Config& config_;
    const WindowGrid grid_;
    const size_t pixels_;
    const int size_, inner_;
    int next_;  // slice; their number where none may follow
    Array past_, side_, u_, x_, y_, query_;
    Array sums_, mean_, m2_, merged_;
    Array key_value_, scores_, denominators_;
    Array features_, hidden1_, hidden2_, out_;
    Array previous_, results_;  // results_: means, scales, corrections, flag
    Staging host_previous_, host_results_;
    std::vector<Cuda::Graph> graphs_;  // of slices
};

}  // namespace
}  // namespace flic::exact::device
