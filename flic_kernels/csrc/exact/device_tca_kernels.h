// T-CA's kernels as one thread's work each, like those of device_kernels.h. Windows are 8x8 pixels
// of an image [pixel][inner]; channel = 16 * token + head.
#pragma once
#include "exact/device_kernels.h"

namespace flic::exact::device {
namespace {

struct WindowGrid {
    int height, width;  // of the image

    FLIC_FUNCTION int windows() const { return (height / kWindow) * (width / kWindow); }
    FLIC_FUNCTION int window(int pixel) const {
        return pixel / width / kWindow * (width / kWindow) + pixel % width / kWindow;
    }
    FLIC_FUNCTION ptrdiff_t pixel(int window, int position) const {
        const int across = width / kWindow;
        const ptrdiff_t y = window / across * kWindow + position / kWindow;
        return y * width + window % across * kWindow + position % kWindow;
    }
};

// Over the positions of a window, for each channel: the sum, or that of squared differences from
// `mean`.
struct ColumnSums {
    WindowGrid grid;
    const float* x;
    int inner;
    const float* mean;  // of each window, null for the plain sum
    float* sums;        // [window][inner]

    ptrdiff_t threads() const { return static_cast<ptrdiff_t>(grid.windows()) * inner; }
    FLIC_FUNCTION void operator()(ptrdiff_t i) const {
        const int window = static_cast<int>(i / inner), channel = static_cast<int>(i % inner);
        Lane sum = Lane::set(0.0f);
        for (int p = 0; p < kPositions; ++p) {
            const Lane value = Lane::set(x[grid.pixel(window, p) * inner + channel]);
            if (mean) {
                const Lane d = Lane::sub(value, Lane::set(mean[window]));
                sum = Lane::fma(d, d, sum);
            } else {
                sum = Lane::add(sum, value);
            }
        }
        sums[i] = sum.v;
    }
};

// A window's column sums to one number, divided by the count for a mean.
struct WindowSum {
    int windows, inner;
    const float* sums;
    bool divide;
    float* out;

    ptrdiff_t threads() const { return windows; }
    FLIC_FUNCTION void operator()(ptrdiff_t i) const {
        Lane lanes[16];
        for (int l = 0; l < 16; ++l) lanes[l] = Lane::set(0.0f);
        for (int c = 0; c < inner; c += 16) {
            for (int l = 0; l < 16; ++l)
                lanes[l] = Lane::add(lanes[l], Lane::set(sums[i * inner + c + l]));
        }
        const Lane sum = lane_tree(lanes);
        out[i] =
            divide ? Lane::div(sum, Lane::set(static_cast<float>(kPositions * inner))).v : sum.v;
    }
};

// The whole picture's moments from the windows'. One thread.
struct MergeMoments {
    WindowGrid grid;
    int inner;
    const float* mean;
    const float* m2;
    float* merged;  // mean, m2
    int* bad;

    ptrdiff_t threads() const { return 1; }
    FLIC_FUNCTION void operator()(ptrdiff_t) const {
        const int across = grid.width / kWindow, down = grid.height / kWindow;
        const Lane count = Lane::set(static_cast<float>(kPositions * inner));
        Lane total = Lane::set(0.0f);
        for (int y = 0; y < down; ++y) {
            Lane row = Lane::set(0.0f);
            for (int x = 0; x < across; ++x) row = Lane::add(row, Lane::set(mean[y * across + x]));
            total = Lane::add(total, row);
        }
        const Lane all = Lane::div(total, Lane::set(static_cast<float>(grid.windows())));
        Lane squares = Lane::set(0.0f);
        for (int y = 0; y < down; ++y) {
            Lane row = Lane::set(0.0f);
            for (int x = 0; x < across; ++x) {
                const Lane d = Lane::sub(Lane::set(mean[y * across + x]), all);
                const Lane own = Lane::set(m2[y * across + x]);
                row = Lane::add(row, Lane::fma(Lane::mul(d, d), count, own));
            }
            squares = Lane::add(squares, row);
        }
        merged[0] = all.v;
        merged[1] = squares.v;
        if (!is_finite(all.v) || !is_finite(squares.v)) *bad = 1;
    }
};

// (x - mean) * rstd * weight + bias by each window's moments or the whole picture's; with `base`,
// base + gelu of that.
struct Normalise {
    WindowGrid grid;
    const float* x;
    int inner;
    const float* mean;
    const float* m2;
    bool whole;
    const float* weight;
    const float* bias;
    const float* base;  // or null
    float* out;

    ptrdiff_t threads() const { return static_cast<ptrdiff_t>(grid.height) * grid.width * inner; }
    FLIC_FUNCTION void operator()(ptrdiff_t i) const {
        const int pixel = static_cast<int>(i / inner), channel = static_cast<int>(i % inner);
        const int of = whole ? 0 : grid.window(pixel);
        Lane count = Lane::set(static_cast<float>(kPositions * inner));
        if (whole) count = Lane::mul(count, Lane::set(static_cast<float>(grid.windows())));
        const Lane rstd = deviation_reciprocal(Lane::set(m2[of]), count);
        const Lane y =
            normalised(Lane::set(x[i]), Lane::set(mean[of]), rstd, weight[channel], bias[channel]);
        out[i] = base ? Lane::add(Lane::set(base[i]), gelu(y)).v : y.v;
    }
};

struct Depthwise {
    WindowGrid grid;
    const float* x;
    int inner;
    const float* weights;  // [9][inner]
    const float* bias;
    float* out;

    ptrdiff_t threads() const { return static_cast<ptrdiff_t>(grid.height) * grid.width * inner; }
    FLIC_FUNCTION void operator()(ptrdiff_t i) const {
        const int pixel = static_cast<int>(i / inner), channel = static_cast<int>(i % inner);
        const int y = pixel / grid.width, x0 = pixel % grid.width;
        Lane sum = Lane::set(bias[channel]);
        for (int t = 0; t < 9; ++t) {
            const int dy = t / 3 - 1, dx = t % 3 - 1;
            const int wy = y % kWindow + dy, wx = x0 % kWindow + dx;
            const bool inside = wy >= 0 && wy < kWindow && wx >= 0 && wx < kWindow;
            const ptrdiff_t from = static_cast<ptrdiff_t>(y + dy) * grid.width + x0 + dx;
            const float value = inside ? x[from * inner + channel] : 0.0f;
            sum = Lane::fma(Lane::set(value), Lane::set(weights[t * inner + channel]), sum);
        }
        out[i] = sum.v;
    }
};

// What the three steps of the attention share. Keys and values of slice s: key_value + s *
// slice_stride.
struct Attention {
    WindowGrid grid;
    int inner, slices;
    const float* query;      // [pixel][inner]
    const float* key_value;  // [pixel][2 * inner]
    ptrdiff_t slice_stride;
    float scale;
    float* scores;        // [window][token][key][head]
    float* denominators;  // [window][token][head]
    float* out;           // [pixel][inner]

    FLIC_FUNCTION int tokens() const { return inner / kHeads; }
    FLIC_FUNCTION int keys() const { return slices * tokens(); }
};

struct AttentionScores : Attention {
    ptrdiff_t threads() const { return static_cast<ptrdiff_t>(grid.windows()) * inner * keys(); }
    FLIC_FUNCTION void operator()(ptrdiff_t i) const {
        const int head = static_cast<int>(i % kHeads), key = static_cast<int>(i / kHeads % keys());
        const ptrdiff_t row = i / kHeads / keys();
        const int token = static_cast<int>(row % tokens()),
                  window = static_cast<int>(row / tokens());
        const float* const from =
            key_value + key / tokens() * slice_stride + key % tokens() * kHeads + head;
        Lane sum = Lane::set(0.0f);
        for (int p = 0; p < kPositions; ++p) {
            const ptrdiff_t pixel = grid.pixel(window, p);
            const float q = query[pixel * inner + token * kHeads + head];
            sum = Lane::fma(Lane::set(q), Lane::set(from[pixel * 2 * inner]), sum);
        }
        scores[i] = sum.v;
    }
};

struct AttentionSoftmax : Attention {
    ptrdiff_t threads() const { return static_cast<ptrdiff_t>(grid.windows()) * inner; }
    FLIC_FUNCTION void operator()(ptrdiff_t i) const {
        float* const row = scores + i / kHeads * keys() * kHeads + i % kHeads;
        Lane greatest = Lane::set(row[0]), denominator = Lane::set(0.0f);
        for (int u = 1; u < keys(); ++u) greatest = Lane::max(greatest, Lane::set(row[u * kHeads]));
        for (int u = 0; u < keys(); ++u) {
            const Lane difference = Lane::sub(Lane::set(row[u * kHeads]), greatest);
            const Lane e = exp_nonpositive(Lane::mul(difference, Lane::set(scale)));
            row[u * kHeads] = e.v;
            denominator = Lane::add(denominator, e);
        }
        denominators[i] = denominator.v;
    }
};

struct AttentionValues : Attention {
    ptrdiff_t threads() const { return static_cast<ptrdiff_t>(grid.height) * grid.width * inner; }
    FLIC_FUNCTION void operator()(ptrdiff_t i) const {
        const int pixel = static_cast<int>(i / inner), channel = static_cast<int>(i % inner);
        const int head = channel % kHeads;
        const ptrdiff_t row =
            static_cast<ptrdiff_t>(grid.window(pixel)) * tokens() + channel / kHeads;
        const float* const weights = scores + row * keys() * kHeads + head;
        const float* const values =
            key_value + static_cast<ptrdiff_t>(pixel) * 2 * inner + inner + head;
        Lane sum = Lane::set(0.0f);
        for (int u = 0; u < keys(); ++u) {
            const float v = values[u / tokens() * slice_stride + u % tokens() * kHeads];
            sum = Lane::fma(Lane::set(weights[u * kHeads]), Lane::set(v), sum);
        }
        out[i] = Lane::div(sum, Lane::set(denominators[row * kHeads + head])).v;
    }
};

// For each channel of y its `ratio` values of u, then its two of side.
struct Interleave {
    const float* u;  // [pixel][slice_channels * ratio]
    const float* side;
    ptrdiff_t side_stride;
    int side_first, slice_channels, ratio, pixels;
    float* out;
    ptrdiff_t out_stride;

    ptrdiff_t threads() const {
        return static_cast<ptrdiff_t>(pixels) * slice_channels * (ratio + 2);
    }
    FLIC_FUNCTION void operator()(ptrdiff_t i) const {
        const int n = slice_channels * (ratio + 2);
        const ptrdiff_t pixel = i / n;
        const int place = static_cast<int>(i % n), channel = place / (ratio + 2),
                  j = place % (ratio + 2);
        out[pixel * out_stride + place] =
            j < ratio ? u[pixel * slice_channels * ratio + channel * ratio + j]
                      : side[pixel * side_stride + side_first + 2 * channel + j - ratio];
    }
};

}  // namespace
}  // namespace flic::exact::device
