// The hyper-synthesis transforms h_mean_s and h_scale_s: an upsampling residual block with inverse
// GDN, a plain and a shifted FAT block, a sub-pixel convolution. Both networks are run together, as
// items of the same jobs.
#include <atomic>
#include <vector>

#include "exact/engine.h"
#include "include/flic_kernels.h"

namespace flic::exact {
namespace {

// One network's activations at twice z's resolution. Tokens stand tile by tile: 4x4 tiles in row
// order, pixels of a tile in row order.
struct Activations {
    Activations(int height, int width, int channels)
        : upsampled(height, width, channels),
          result(height, width, channels),
          identity(static_cast<size_t>(height) * width * padded(channels)),
          x(identity.size()),
          t(identity.size()),
          attended(identity.size()),
          qkv(static_cast<size_t>(height) * width * padded(3 * channels)) {}
    HaloImage upsampled, result;
    Floats identity, x, t, attended, qkv;
};

class HyperSynthesis {
  public:
    HyperSynthesis(Engine& engine, const float* z_hat, int height, int width);
    // False where a value is not finite.
    bool run(float* const (&planes)[2]);

  private:
    static constexpr int kRows = Engine::kRows;
    struct Rows {
        int begin, count;
    };
    static int blocks(int rows) { return (rows + kRows - 1) / kRows; }
    static Rows block(int i, int rows) {
        return {i * kRows, rows - i * kRows < kRows ? rows - i * kRows : kRows};
    }
    struct Position {
        int y, x;
    };
    Position position(int token) const {
        const int tile = token / kTileTokens, tiles = width_ / kTile;
        return {tile / tiles * kTile + token % kTileTokens / kTile,
                tile % tiles * kTile + token % kTile};
    }
    int token(int y, int x) const {
        return ((y / kTile) * (width_ / kTile) + x / kTile) * kTileTokens + y % kTile * kTile +
               x % kTile;
    }

    void upsample(int network, int place, bool identity, Rows rows);
    void residual(int network, Rows rows, int worker);
    void before_attention(const FatWeights& weights, Activations& a, Rows rows, int worker);
    void attend(const FatWeights& weights, Activations& a, bool shifted, int tile, int worker);
    void after_attention(const FatWeights& weights, Activations& a, Rows rows, int worker);
    bool subpel(int network, int place, Rows rows, int worker, float* planes);

    Engine& engine_;
    const Kernels& kernels_;
    const int channels_, stride_;
    const int height_, width_, tokens_;  // at twice z's resolution
    HaloImage z_;
    Activations activations_[2];
};

HyperSynthesis::HyperSynthesis(Engine& engine, const float* z_hat, int height, int width)
    : engine_(engine),
      kernels_(engine.kernels),
      channels_(engine.config.width),
      stride_(padded(channels_)),
      height_(2 * height),
      width_(2 * width),
      tokens_(height_ * width_),
      z_(height, width, engine.config.hyper_latent),
      activations_{{height_, width_, channels_}, {height_, width_, channels_}} {
    z_.read_planes(z_hat, 0, engine.config.hyper_latent);
}

bool HyperSynthesis::run(float* const (&planes)[2]) {
    Pool& pool = engine_.pool();
    const HyperWeights(&weights)[2] = engine_.weights->hyper;
    const int z_pixels = tokens_ / 4, z_blocks = blocks(z_pixels), token_blocks = blocks(tokens_);

    pool.run(2 * 2 * 4 * z_blocks, [&](int item, int) {
        const int rest = item / z_blocks;
        upsample(rest & 1, rest >> 2, rest & 2, block(item % z_blocks, z_pixels));
    });
    pool.run(2 * token_blocks, [&](int item, int worker) {
        const int n = item & 1;
        const Rows rows = block(item / 2, tokens_);
        residual(n, rows, worker);
        before_attention(weights[n].fat[0], activations_[n], rows, worker);
    });
    for (int f = 0; f < 2; ++f) {
        pool.run(2 * (tokens_ / kTileTokens), [&](int item, int worker) {
            attend(weights[item & 1].fat[f], activations_[item & 1], f == 1, item / 2, worker);
        });
        pool.run(2 * token_blocks, [&](int item, int worker) {
            const int n = item & 1;
            const Rows rows = block(item / 2, tokens_);
            after_attention(weights[n].fat[f], activations_[n], rows, worker);
            if (f == 0) before_attention(weights[n].fat[1], activations_[n], rows, worker);
        });
    }
    for (const Activations& a : activations_) {
        for (int i = 0; i < tokens_; ++i) {
            const Position p = position(i);
            const float* const from = a.x.get() + static_cast<size_t>(i) * stride_;
            std::copy(from, from + channels_, a.result.pixel(p.y, p.x));
        }
    }
    std::atomic<bool> finite{true};
    pool.run(2 * 4 * token_blocks, [&](int item, int worker) {
        const int rest = item / token_blocks;
        if (!subpel(rest & 1, rest >> 1, block(item % token_blocks, tokens_), worker,
                    planes[rest & 1]))
            finite = false;
    });
    return finite;
}

// One place of the pixel shuffle of subpel_conv (with its LeakyReLU) or of the identity's
// upsampling.
void HyperSynthesis::upsample(int network, int place, bool identity, Rows rows) {
    const HyperWeights& weights = engine_.weights->hyper[network];
    Activations& a = activations_[network];
    const float* in[kRows] = {};
    float* out[kRows] = {};
    for (int r = 0; r < rows.count; ++r) {
        const int y = (rows.begin + r) / (width_ / 2), x = (rows.begin + r) % (width_ / 2);
        const int to_y = 2 * y + place / 2, to_x = 2 * x + place % 2;
        in[r] = z_.pixel(y, x);
        out[r] = identity ? a.identity.get() + static_cast<size_t>(token(to_y, to_x)) * stride_
                          : a.upsampled.pixel(to_y, to_x);
    }
    const Packed& packed = (identity ? weights.upsample : weights.subpel)[place];
    kernels_.product(packed.product(), z_.tap_offsets(), rows.count, in, out);
    if (identity) return;
    for (int r = 0; r < rows.count; ++r) kernels_.leaky_relu(out[r], out[r], stride_);
}

// conv, inverse GDN, plus the identity.
void HyperSynthesis::residual(int network, Rows rows, int worker) {
    const HyperWeights& weights = engine_.weights->hyper[network];
    Activations& a = activations_[network];
    Scratch scratch(engine_.workers[worker]);
    const ptrdiff_t size = static_cast<ptrdiff_t>(rows.count) * stride_;
    float* const conv = scratch.take(size);
    float* const square = scratch.take(size);
    float* const norm = scratch.take(size);
    const float* in[kRows] = {};
    float* out[kRows] = {};
    for (int r = 0; r < rows.count; ++r) {
        const Position p = position(rows.begin + r);
        in[r] = a.upsampled.pixel(p.y, p.x);
        out[r] = conv + static_cast<ptrdiff_t>(r) * stride_;
    }
    kernels_.product(weights.conv.product(), a.upsampled.tap_offsets(), rows.count, in, out);
    kernels_.square(conv, square, size);
    dense(kernels_, weights.gdn, rows.count, square, stride_, norm, stride_);
    const size_t first = static_cast<size_t>(rows.begin) * stride_;
    kernels_.inverse_gdn(conv, norm, a.identity.get() + first, a.x.get() + first, size);
}

void HyperSynthesis::before_attention(const FatWeights& weights, Activations& a, Rows rows,
                                      int worker) {
    Scratch scratch(engine_.workers[worker]);
    float* const normal = scratch.take(static_cast<size_t>(rows.count) * stride_);
    const size_t first = static_cast<size_t>(rows.begin) * stride_;
    dense(kernels_, weights.conv1_1, rows.count, a.x.get() + first, stride_, a.t.get() + first,
          stride_);
    kernels_.layer_norm(a.t.get() + first, rows.count, channels_, weights.norm1_weight.get(),
                        weights.norm1_bias.get(), normal);
    const int qkv_stride = weights.qkv.columns();
    dense(kernels_, weights.qkv, rows.count, normal, stride_,
          a.qkv.get() + static_cast<size_t>(rows.begin) * qkv_stride, qkv_stride);
}

void HyperSynthesis::attend(const FatWeights& weights, Activations& a, bool shifted, int tile,
                            int worker) {
    WindowAttention attention = {};
    attention.qkv = a.qkv.get();
    for (int b = 0; b < 4; ++b) attention.bias[b] = weights.bias_table[b].get();
    attention.height = height_;
    attention.width = width_;
    attention.channels = channels_;
    attention.heads = engine_.config.heads;
    attention.shifted = shifted;
    attention.scale = 1.0f / __builtin_sqrtf(static_cast<float>(channels_ / engine_.config.heads));
    attention.scratch = engine_.workers[worker].scratch.get();
    attention.out = a.attended.get();
    kernels_.window_attention(attention, tile);
}

void HyperSynthesis::after_attention(const FatWeights& weights, Activations& a, Rows rows,
                                     int worker) {
    Scratch scratch(engine_.workers[worker]);
    const ptrdiff_t size = static_cast<ptrdiff_t>(rows.count) * stride_;
    const int wide = weights.ffn0.columns();
    float* const part = scratch.take(size);
    float* const hidden = scratch.take(static_cast<size_t>(rows.count) * wide);
    const size_t first = static_cast<size_t>(rows.begin) * stride_;
    float* const t = a.t.get() + first;
    dense(kernels_, weights.proj, rows.count, a.attended.get() + first, stride_, part, stride_);
    kernels_.add(t, part, t, size);
    kernels_.layer_norm(t, rows.count, channels_, weights.norm2_weight.get(),
                        weights.norm2_bias.get(), part);
    dense(kernels_, weights.ffn0, rows.count, part, stride_, hidden, wide);
    kernels_.gelu(hidden, hidden, static_cast<ptrdiff_t>(rows.count) * wide);
    dense(kernels_, weights.ffn2, rows.count, hidden, wide, part, stride_);
    kernels_.modulate_add(part, rows.count / kTileTokens, stride_, weights.modulation.get(), t);
    dense(kernels_, weights.conv1_2, rows.count, t, stride_, part, stride_);
    kernels_.add(a.x.get() + first, part, a.x.get() + first, size);
}

// One place of the last pixel shuffle, written as planes [latent][2 height][2 width].
bool HyperSynthesis::subpel(int network, int place, Rows rows, int worker, float* planes) {
    const Packed& packed = engine_.weights->hyper[network].last[place];
    const Activations& a = activations_[network];
    const ptrdiff_t stride = packed.columns();
    float* const pixels = engine_.workers[worker].scratch.get();
    const float* in[kRows] = {};
    float* out[kRows] = {};
    for (int r = 0; r < rows.count; ++r) {
        in[r] = a.result.pixel((rows.begin + r) / width_, (rows.begin + r) % width_);
        out[r] = pixels + r * stride;
    }
    kernels_.product(packed.product(), a.result.tap_offsets(), rows.count, in, out);
    for (int c = 0; c < engine_.config.latent; ++c) {
        float* const plane = planes + static_cast<size_t>(c) * 4 * tokens_;
        for (int r = 0; r < rows.count; ++r) {
            const int y = (rows.begin + r) / width_, x = (rows.begin + r) % width_;
            plane[static_cast<size_t>(2 * y + place / 2) * 2 * width_ + 2 * x + place % 2] =
                out[r][c];
        }
    }
    return all_finite(pixels, rows.count * stride);
}

}  // namespace

void Engine::hyper(const float* z_hat, int height, int width, float* means, float* scales) {
    if (height < 2 || width < 2 || height % 2 || width % 2) {
        throw Error(FLIC_BAD_ARGUMENT, "z's height and width must be even");
    }
    if (!all_finite(z_hat, static_cast<size_t>(config.hyper_latent) * height * width)) {
        throw Error(FLIC_NOT_FINITE, "z_hat holds NaN or infinity");
    }
    if (!HyperSynthesis(*this, z_hat, height, width).run({means, scales})) {
        throw Error(FLIC_NOT_FINITE, "the hyper-synthesis gave NaN or infinity");
    }
}

}  // namespace flic::exact
