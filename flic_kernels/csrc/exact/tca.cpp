// T-CA, slice by slice: lift, layers with cached keys and values, the entropy parameters' network.
//
// A layer is two halves. The first needs one 8x8 window only; the second needs the moments of the
// whole picture. A job's item is one window: the second half of a layer and the first half of the
// next.
#include <math.h>

#include <atomic>

#include "exact/engine.h"
#include "include/flic_kernels.h"
#include "simd/soft_fma.h"

namespace flic::exact {
namespace {

constexpr int kRows = Engine::kRows;

struct WindowPosition {
    int y, x;  // of the first pixel
};

WindowPosition window_position(int w, int width) {
    const int across = width / kWindow;
    return {w / across * kWindow, w % across * kWindow};
}

// A 1x1 or 3x3 product over all pixels of an image, in blocks; done(out, first pixel, count) after
// each block.
template <class Target, class Done>
void convolve(Engine& engine, const Packed& weights, const HaloImage& image, int height, int width,
              const Target& target, const Done& done) {
    const bool centre_only = weights.product().taps == 1;
    const ptrdiff_t centre = 0;
    const int pixels = height * width;
    engine.pool().run((pixels + kRows - 1) / kRows, [&](int item, int worker) {
        const int first = item * kRows, count = pixels - first < kRows ? pixels - first : kRows;
        const float* in[kRows];
        float* out[kRows];
        for (int r = 0; r < count; ++r) {
            const int y = (first + r) / width, x = (first + r) % width;
            in[r] = image.pixel(y, x);
            out[r] = target(r, y, x, worker);
        }
        engine.kernels.product(weights.product(), centre_only ? &centre : image.tap_offsets(),
                               count, in, out);
        done(out, first, count);
    });
}

}  // namespace

Picture::Picture(Engine& engine, const float* means, const float* scales, int height, int width)
    : engine_(engine),
      height_(height),
      width_(width),
      past_(height, width, engine.config.slice_channels()),
      side_(static_cast<size_t>(height) * width * padded(2 * engine.config.latent)),
      u_(static_cast<size_t>(height) * width * engine.config.inner(), Floats::Fill::none),
      moments_(static_cast<size_t>(height / kWindow) * (width / kWindow)),
      key_value_(u_.size() * 2 * engine.config.depth * (engine.config.slices - 1),
                 Floats::Fill::none),
      last_key_value_(u_.size() * 2, Floats::Fill::none),
      features_(height, width, (engine.config.ratio + 2) * engine.config.slice_channels()),
      hidden1_(height, width, 2 * engine.config.slice_channels()),
      hidden2_(height, width, 3 * engine.config.slice_channels()) {
    const int latent = engine.config.latent;
    const size_t values = static_cast<size_t>(latent) * height * width;
    if (!all_finite(means, values) || !all_finite(scales, values)) {
        throw Error(FLIC_NOT_FINITE, "the hyper features hold NaN or infinity");
    }
    HaloImage hyper(height, width, 2 * latent);
    hyper.read_planes(means, 0, latent);
    hyper.read_planes(scales, latent, latent);
    const TcaWeights& weights = engine.weights->tca;
    const auto nothing = [](float* const*, int, int) {};
    convolve(
        engine, weights.start, hyper, height, width,
        [&](int, int y, int x, int) { return past_.pixel(y, x); }, nothing);
    const size_t stride = padded(2 * latent);
    convolve(
        engine, weights.hyper_trans, hyper, height, width,
        [&](int, int y, int x, int) {
            return side_.get() + (static_cast<size_t>(y) * width + x) * stride;
        },
        nothing);
    count(weights.start, height * width);
    count(weights.hyper_trans, height * width);
}

float* Picture::key_value(int layer, int slice, int w) {
    const int earlier = engine_.config.slices - 1;
    float* const kept = slice < earlier
                            ? key_value_.get() + (layer * earlier + slice) * u_.size() * 2
                            : last_key_value_.get();
    return kept + static_cast<size_t>(w) * kPositions * 2 * engine_.config.inner();
}

void Picture::slice(int i, const float* previous, float* means, float* scales, float* corrections) {
    if (i != next_ || i >= engine_.config.slices)
        throw Error(FLIC_BAD_ARGUMENT, "slices must be asked for in order");
    const int size = engine_.config.slice_channels(), depth = engine_.config.depth;
    const size_t values = static_cast<size_t>(size) * height_ * width_;
    if (i > 0) {
        if (!previous || !all_finite(previous, values))
            throw Error(FLIC_NOT_FINITE, "the previous slice is not finite");
        past_.read_planes(previous, 0, size);
    }
    next_ = engine_.config.slices;  // nothing follows an error
    const TcaSliceWeights& weights = engine_.weights->tca.slices[i];
    for (int layer = 0; layer <= depth; ++layer) {
        const Moments moments = layer ? merge_moments() : Moments{};
        engine_.pool().run(windows(), [&](int w, int worker) {
            if (layer) {
                mlp_half(weights.layers[layer - 1], moments, w, worker);
            } else {
                lift(i, w);
            }
            if (layer < depth) {
                attention_half(i, layer, w, worker);
            } else {
                interleave(i, w);
            }
        });
    }
    const int64_t pixels = static_cast<int64_t>(height_) * width_;
    count(weights.lift, pixels);
    for (const TcaLayerWeights& layer : weights.layers) {
        for (const Packed* p :
             {&layer.query, &layer.key_value, &layer.proj, &layer.fc1, &layer.fc2})
            count(*p, pixels);
        multiply_adds_ +=
            2 * pixels * engine_.config.inner() * (i + 1) * (engine_.config.inner() / kHeads);
    }
    entropy_parameters(i, means, scales, corrections);
    next_ = i + 1;
}

void Picture::lift(int slice, int w) {
    const WindowPosition at = window_position(w, width_);
    const float* in[kPositions];
    float* out[kPositions];
    for (int p = 0; p < kPositions; ++p) {
        in[p] = past_.pixel(at.y + p / kWindow, at.x + p % kWindow);
        out[p] = window(w) + static_cast<ptrdiff_t>(p) * engine_.config.inner();
    }
    engine_.kernels.product(engine_.weights->tca.slices[slice].lift.product(), past_.tap_offsets(),
                            kPositions, in, out);
}

// u += proj(attention(norm1, positional encoding)), and the window's moments of it.
void Picture::attention_half(int slice, int layer, int w, int worker) {
    const Kernels& kernels = engine_.kernels;
    const TcaLayerWeights& weights = engine_.weights->tca.slices[slice].layers[layer];
    const int inner = engine_.config.inner(), slices = engine_.config.slices;
    const ptrdiff_t size = static_cast<ptrdiff_t>(kPositions) * inner;
    const float values = static_cast<float>(size);
    float* const u = window(w);
    float* const halo = engine_.workers[worker].halo.get();
    Scratch scratch(engine_.workers[worker]);
    float* const x = scratch.take(size);
    float* const y = scratch.take(size);
    float* const query = scratch.take(size);

    const auto normalisation = [&](const float* of, const Floats& weight, const Floats& bias) {
        const Moments m = kernels.window_moments(of, inner);
        return Normalisation{m.mean, reciprocal_deviation(m.m2, values), weight.get(), bias.get()};
    };
    kernels.normalise_into_halo(u, inner,
                                normalisation(u, weights.norm1_weight, weights.norm1_bias), halo);
    kernels.depthwise(halo, inner, weights.encoding_weight.get(), weights.encoding_bias.get(), y);
    kernels.normalise_gelu_add(
        y, inner, normalisation(y, weights.encoding_norm_weight, weights.encoding_norm_bias), halo,
        x);

    dense(kernels, weights.query, kPositions, x, inner, query, inner);
    dense(kernels, weights.key_value, kPositions, x, inner, key_value(layer, slice, w), 2 * inner);
    TokenAttention attention = {};
    attention.query = query;
    const float** const key_values = engine_.workers[worker].key_values.data();
    for (int s = 0; s <= slice; ++s) key_values[s] = key_value(layer, s, w);
    attention.key_value = key_values;
    attention.slices = slice + 1;
    attention.inner = inner;
    attention.scale = 1.0f / __builtin_sqrtf(static_cast<float>(slices * (inner / kHeads)));
    attention.scores = scratch.take(static_cast<size_t>(4) * slices * inner);
    attention.out = y;
    kernels.token_attention(attention);

    dense(kernels, weights.proj, kPositions, y, inner, x, inner);
    kernels.add(u, x, u, size);
    moments_[w] = kernels.window_moments(u, inner);
}

// u += fc2(gelu(fc1(norm2(u)))).
void Picture::mlp_half(const TcaLayerWeights& weights, const Moments& moments, int w, int worker) {
    const Kernels& kernels = engine_.kernels;
    const int inner = engine_.config.inner();
    const ptrdiff_t size = static_cast<ptrdiff_t>(kPositions) * inner;
    const float values = static_cast<float>(size) * static_cast<float>(windows());
    Scratch scratch(engine_.workers[worker]);
    float* const x = scratch.take(size);
    float* const y = scratch.take(size);
    const Normalisation normalisation = {moments.mean, reciprocal_deviation(moments.m2, values),
                                         weights.norm2_weight.get(), weights.norm2_bias.get()};
    kernels.normalise(window(w), inner, normalisation, x);
    dense(kernels, weights.fc1, kPositions, x, inner, y, inner);
    kernels.gelu(y, y, size);
    dense(kernels, weights.fc2, kPositions, y, inner, x, inner);
    kernels.add(window(w), x, window(w), size);
}

// Means and sums of squares are added along each row of windows, then the rows.
Moments Picture::merge_moments() const {
    const int across = width_ / kWindow, down = height_ / kWindow;
    const float values = static_cast<float>(kPositions * engine_.config.inner());
    float sum = 0.0f;
    for (int y = 0; y < down; ++y) {
        float row = 0.0f;
        for (int x = 0; x < across; ++x)
            row = row + moments_[static_cast<size_t>(y) * across + x].mean;
        sum = sum + row;
    }
    const float mean = sum / static_cast<float>(windows());
    float m2 = 0.0f;
    for (int y = 0; y < down; ++y) {
        float row = 0.0f;
        for (int x = 0; x < across; ++x) {
            const Moments& m = moments_[static_cast<size_t>(y) * across + x];
            const float d = m.mean - mean;
            row = row + soft_fma(d * d, values, m.m2);
        }
        m2 = m2 + row;
    }
    if (!isfinite(mean) || !isfinite(m2))
        throw Error(FLIC_NOT_FINITE, "T-CA's activations became NaN or infinite");
    return {mean, m2};
}

// For each channel of y its `ratio` values of u and its two side values, into the next network's
// input.
void Picture::interleave(int slice, int w) {
    const Config& c = engine_.config;
    const int size = c.slice_channels(), side_stride = padded(2 * c.latent);
    const WindowPosition at = window_position(w, width_);
    for (int p = 0; p < kPositions; ++p) {
        const int y = at.y + p / kWindow, x = at.x + p % kWindow;
        const float* u = window(w) + static_cast<ptrdiff_t>(p) * c.inner();
        const float* side =
            side_.get() + (static_cast<size_t>(y) * width_ + x) * side_stride + 2 * slice * size;
        float* to = features_.pixel(y, x);
        for (int channel = 0; channel < size; ++channel) {
            for (int j = 0; j < c.ratio; ++j) *to++ = *u++;
            *to++ = *side++;
            *to++ = *side++;
        }
    }
}

void Picture::entropy_parameters(int slice, float* means, float* scales, float* corrections) {
    const Packed(&weights)[3] = engine_.weights->tca.slices[slice].entropy;
    const auto into = [](const HaloImage& image) {
        return [&image](int, int y, int x, int) { return image.pixel(y, x); };
    };
    const auto gelu = [this](int stride) {
        return [this, stride](float* const* out, int, int n) {
            for (int r = 0; r < n; ++r) engine_.kernels.gelu(out[r], out[r], stride);
        };
    };
    convolve(engine_, weights[0], features_, height_, width_, into(hidden1_),
             gelu(weights[0].columns()));
    convolve(engine_, weights[1], hidden1_, height_, width_, into(hidden2_),
             gelu(weights[1].columns()));
    const size_t pixels = static_cast<size_t>(height_) * width_;
    const int columns = weights[2].columns(), size = engine_.config.slice_channels();
    std::atomic<bool> finite{true};
    convolve(
        engine_, weights[2], hidden2_, height_, width_,
        [&](int r, int, int, int worker) {
            return engine_.workers[worker].scratch.get() + static_cast<size_t>(r) * columns;
        },
        [&](float* const* out, int first, int n) {
            for (int r = 0; r < n; ++r) {
                if (!all_finite(out[r], columns)) finite = false;
                for (int c = 0; c < size; ++c) {
                    const size_t at = c * pixels + first + r;
                    means[at] = out[r][3 * c];
                    scales[at] = out[r][3 * c + 1];
                    corrections[at] = out[r][3 * c + 2];
                }
            }
        });
    if (!finite) throw Error(FLIC_NOT_FINITE, "T-CA gave NaN or infinity");
    for (const Packed& w : weights) count(w, static_cast<int64_t>(pixels));
}

}  // namespace flic::exact
