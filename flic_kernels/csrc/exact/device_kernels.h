// The exact engine's kernels as one thread's work each, without shared memory or barriers: CUDA
// launches them, and the host can run the same code in a loop (tests/native/cuda).
//
// Every operator()(i) computes the outputs of thread i in the order of docs/exact.md. Images are
// [pixel][channel], pixels row by row; a row's distance is called its stride.
#pragma once
#include <stddef.h>

#include "simd/lane.h"
// lane.h says what FLIC_FUNCTION is
#include "exact/exact_kernels.h"
#include "simd/functions.h"

namespace flic::exact::device {
namespace {

FLIC_FUNCTION bool is_finite(float x) { return x - x == 0.0f; }

// Chains of 256 elements over taps and channels; each thread a tile of 4 pixels by 4 columns.
// Weights [tap][channel][columns]. With `scale` 2, pixel (y, x) goes to (2 y + place / 2, 2 x +
// place % 2).
struct ProductTile {
    const float* in;
    ptrdiff_t in_stride;
    int height, width;
    int taps, channels, columns;
    const float* weights;
    const float* bias;
    float* out;
    ptrdiff_t out_stride;
    int scale, place;

    static constexpr int kChain = 256, kSide = 4;
    ptrdiff_t threads() const {
        return static_cast<ptrdiff_t>((height * width + kSide - 1) / kSide) * (columns / kSide);
    }
    // A pixel's channels under a tap, or null outside the image.
    FLIC_FUNCTION const float* source(int pixel, int tap) const {
        if (taps == 1) return in + pixel * in_stride;
        const int y = pixel / width + tap / 3 - 1, x = pixel % width + tap % 3 - 1;
        const bool inside = y >= 0 && y < height && x >= 0 && x < width;
        return inside ? in + (static_cast<ptrdiff_t>(y) * width + x) * in_stride : nullptr;
    }
    FLIC_FUNCTION void operator()(ptrdiff_t i) const {
        const int column = static_cast<int>(i % (columns / kSide)) * kSide;
        const int first = static_cast<int>(i / (columns / kSide)) * kSide;
        const int pixels = height * width, depth = taps * channels;
        Lane total[kSide][kSide];
        for (int begin = 0; begin < depth; begin += kChain) {
            const int end = begin + kChain < depth ? begin + kChain : depth;
            Lane sum[kSide][kSide];
            for (int r = 0; r < kSide; ++r) {
                for (int c = 0; c < kSide; ++c)
                    sum[r][c] = Lane::set(begin ? 0.0f : bias[column + c]);
            }
            for (int k = begin; k < end;) {
                const int tap = k / channels, channel = k % channels;
                const int run = end - k < channels - channel ? end - k : channels - channel;
                const float* row[kSide];
                for (int r = 0; r < kSide; ++r) {
                    row[r] = first + r < pixels ? source(first + r, tap) : nullptr;
                }
                const float* w = weights + static_cast<ptrdiff_t>(k) * columns + column;
                for (int j = channel; j < channel + run; ++j, w += columns) {
                    for (int r = 0; r < kSide; ++r) {
                        const Lane x = Lane::set(row[r] ? row[r][j] : 0.0f);
                        for (int c = 0; c < kSide; ++c) {
                            sum[r][c] = Lane::fma(x, Lane::set(w[c]), sum[r][c]);
                        }
                    }
                }
                k += run;
            }
            for (int r = 0; r < kSide; ++r) {
                for (int c = 0; c < kSide; ++c) {
                    total[r][c] = begin ? Lane::add(total[r][c], sum[r][c]) : sum[r][c];
                }
            }
        }
        for (int r = 0; r < kSide && first + r < pixels; ++r) {
            ptrdiff_t to = first + r;
            if (scale == 2) {
                const ptrdiff_t y = 2 * (to / width) + place / 2, x = 2 * (to % width) + place % 2;
                to = y * 2 * width + x;
            }
            for (int c = 0; c < kSide; ++c) out[to * out_stride + column + c] = total[r][c].v;
        }
    }
};

// Elementwise operations.
enum class Map { gelu, leaky_relu, square, add };

template <Map map>
struct Elementwise {
    const float* a;
    const float* b;  // of add
    float* out;
    ptrdiff_t count;

    ptrdiff_t threads() const { return count; }
    FLIC_FUNCTION void operator()(ptrdiff_t i) const {
        const Lane x = Lane::set(a[i]);
        if (map == Map::gelu) out[i] = gelu(x).v;
        if (map == Map::leaky_relu) out[i] = leaky_relu(x).v;
        if (map == Map::square) out[i] = Lane::mul(x, x).v;
        if (map == Map::add) out[i] = Lane::add(x, Lane::set(b[i])).v;
    }
};

struct InverseGdn {
    const float* x;
    const float* norm;
    const float* identity;
    float* out;
    ptrdiff_t count;

    ptrdiff_t threads() const { return count; }
    FLIC_FUNCTION void operator()(ptrdiff_t i) const {
        out[i] =
            Lane::fma(Lane::set(x[i]), Lane::sqrt(Lane::set(norm[i])), Lane::set(identity[i])).v;
    }
};

FLIC_FUNCTION Lane lane_tree(Lane (&f)[16]) {
    for (int half = 8; half; half /= 2) {
        for (int i = 0; i < half; ++i) f[i] = Lane::add(f[i], f[i + half]);
    }
    return f[0];
}

FLIC_FUNCTION Lane deviation_reciprocal(Lane m2, Lane count) {
    const Lane variance = Lane::div(m2, count);
    return Lane::div(Lane::set(1.0f), Lane::sqrt(Lane::add(variance, Lane::set(1e-5f))));
}

FLIC_FUNCTION Lane normalised(Lane x, Lane mean, Lane rstd, float weight, float bias) {
    return Lane::fma(Lane::mul(Lane::sub(x, mean), rstd), Lane::set(weight), Lane::set(bias));
}

// One token a thread.
struct LayerNorm {
    const float* x;
    int tokens, channels;
    ptrdiff_t stride;
    const float* weight;
    const float* bias;
    float* out;

    ptrdiff_t threads() const { return tokens; }
    FLIC_FUNCTION void operator()(ptrdiff_t i) const {
        const float* const from = x + i * stride;
        const Lane count = Lane::set(static_cast<float>(channels));
        Lane lanes[16];
        for (int l = 0; l < 16; ++l) lanes[l] = Lane::set(0.0f);
        for (int c = 0; c < channels; ++c)
            lanes[c % 16] = Lane::add(lanes[c % 16], Lane::set(from[c]));
        const Lane mean = Lane::div(lane_tree(lanes), count);
        for (int l = 0; l < 16; ++l) lanes[l] = Lane::set(0.0f);
        for (int c = 0; c < channels; ++c) {
            const Lane d = Lane::sub(Lane::set(from[c]), mean);
            lanes[c % 16] = Lane::fma(d, d, lanes[c % 16]);
        }
        const Lane rstd = deviation_reciprocal(lane_tree(lanes), count);
        for (int c = 0; c < channels; ++c) {
            out[i * stride + c] = normalised(Lane::set(from[c]), mean, rstd, weight[c], bias[c]).v;
        }
    }
};

// One head of one query a thread; the query's place is that in the shifted grid.
struct WindowAttend {
    const float* qkv;
    ptrdiff_t qkv_stride;
    int height, width, channels, heads;
    bool shifted;
    float scale;
    const float* bias[4];  // [(2 Wh - 1)(2 Ww - 1)][bias_stride]
    int bias_stride;
    float* out;
    ptrdiff_t out_stride;

    ptrdiff_t threads() const { return static_cast<ptrdiff_t>(height) * width * heads; }
    FLIC_FUNCTION ptrdiff_t pixel(int y, int x) const {
        return static_cast<ptrdiff_t>(y % height) * width + x % width;
    }
    FLIC_FUNCTION void operator()(ptrdiff_t i) const {
        const int head = static_cast<int>(i % heads), place = static_cast<int>(i / heads);
        const int y = place / width, x = place % width;
        const int branch = head / (heads / 4), branch_head = head % (heads / 4),
                  dim = channels / heads;
        const int window_height = branch == 0 || branch == 3 ? 4 : 1;
        const int window_width = branch == 0 || branch == 2 ? 4 : 1;
        const int look_y = shifted ? (window_height + 1) / 2 : 0,
                  put_y = shifted ? window_height / 2 : 0;
        const int look_x = shifted ? (window_width + 1) / 2 : 0,
                  put_x = shifted ? window_width / 2 : 0;
        const int top = y - y % window_height, left = x - x % window_width;
        const int keys = window_height * window_width;
        const float* const query = qkv + pixel(y + look_y, x + look_x) * qkv_stride + head * dim;
        Lane score[kTileTokens];
        for (int n = 0; n < keys; ++n) {
            const int yj = top + n / window_width, xj = left + n % window_width;
            const float* const key =
                qkv + pixel(yj + look_y, xj + look_x) * qkv_stride + channels + head * dim;
            Lane sum = Lane::set(0.0f);
            for (int d = 0; d < dim; ++d)
                sum = Lane::fma(Lane::set(query[d]), Lane::set(key[d]), sum);
            const ptrdiff_t relative =
                (y - yj + window_height - 1) * (2 * window_width - 1) + (x - xj + window_width - 1);
            const float offset = bias[branch][relative * bias_stride + branch_head];
            score[n] = Lane::fma(sum, Lane::set(scale), Lane::set(offset));
        }
        Lane greatest = score[0], denominator = Lane::set(0.0f);
        for (int n = 1; n < keys; ++n) greatest = Lane::max(greatest, score[n]);
        for (int n = 0; n < keys; ++n) {
            score[n] = exp_nonpositive(Lane::sub(score[n], greatest));
            denominator = Lane::add(denominator, score[n]);
        }
        float* const to = out + pixel(y + put_y, x + put_x) * out_stride + head * dim;
        for (int d = 0; d < dim; ++d) {
            Lane sum = Lane::set(0.0f);
            for (int n = 0; n < keys; ++n) {
                const ptrdiff_t from =
                    pixel(top + n / window_width + look_y, left + n % window_width + look_x);
                const float value = qkv[from * qkv_stride + 2 * channels + head * dim + d];
                sum = Lane::fma(score[n], Lane::set(value), sum);
            }
            to[d] = Lane::div(sum, denominator).v;
        }
    }
};

// target += modulation of x, one value a thread.
struct Modulate {
    const float* x;
    int height, width;
    ptrdiff_t stride;
    const float* kernel;  // [16][stride]
    float* target;

    ptrdiff_t threads() const { return static_cast<ptrdiff_t>(height) * width * stride; }
    FLIC_FUNCTION void operator()(ptrdiff_t i) const {
        const ptrdiff_t channel = i % stride;
        const int pixel = static_cast<int>(i / stride), py = pixel / width, px = pixel % width;
        Lane sum = Lane::set(0.0f);
        for (int q = 0; q < kTileTokens; ++q) {
            const int v = q / kTile, u = q % kTile;
            const ptrdiff_t from =
                static_cast<ptrdiff_t>(py / kTile * kTile + v) * width + px / kTile * kTile + u;
            const ptrdiff_t tap = ((py - v) & (kTile - 1)) * kTile + ((px - u) & (kTile - 1));
            sum = Lane::fma(Lane::set(x[from * stride + channel]),
                            Lane::set(kernel[tap * stride + channel]), sum);
        }
        target[i] = Lane::add(Lane::set(target[i]), sum).v;
    }
};

// [channels][pixels] into channels from `first` of [pixel][channel].
struct FromPlanes {
    const float* planes;
    int channels, pixels;
    float* out;
    ptrdiff_t stride;
    int first;

    ptrdiff_t threads() const { return static_cast<ptrdiff_t>(channels) * pixels; }
    FLIC_FUNCTION void operator()(ptrdiff_t i) const {
        out[i % pixels * stride + first + i / pixels] = planes[i];
    }
};

// Every `step`-th channel from `first` of [pixel][channel] as [channels][pixels]; `bad` is set
// where a value is not finite.
struct ToPlanes {
    const float* in;
    ptrdiff_t stride;
    int first, step, channels, pixels;
    float* planes;
    int* bad;

    ptrdiff_t threads() const { return static_cast<ptrdiff_t>(channels) * pixels; }
    FLIC_FUNCTION void operator()(ptrdiff_t i) const {
        const float value = in[i % pixels * stride + first + step * (i / pixels)];
        planes[i] = value;
        if (!is_finite(value)) *bad = 1;
    }
};

}  // namespace
}  // namespace flic::exact::device
