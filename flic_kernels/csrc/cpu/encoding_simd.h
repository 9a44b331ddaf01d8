// The head of a T-CA layer, for the instruction set of the including file.
#pragma once
#include "each.h"
#include "encoding.h"
#include "functions.h"

namespace {

// Mean and reciprocal deviation of the values that at(position) points to, `channels` each.
struct Statistics {
    float mean, rstd;

    template <class At>
    Statistics(int positions, int channels, float eps, At at) {
        Lanes total = Lanes::set(0.0f);
        for (int p = 0; p < positions; ++p) {
            each_run(channels, [&](ptrdiff_t c, int n) {
                total = Lanes::add(total, load_run(at(p) + c, n));
            });
        }
        const float share = 1.0f / static_cast<float>(positions * channels);
        mean = sum(total) * share;
        const Lanes m = Lanes::set(mean);
        Lanes squares = Lanes::set(0.0f);
        for (int p = 0; p < positions; ++p) {
            each_run(channels, [&](ptrdiff_t c, int n) {
                const Lanes d = Lanes::sub(load_run(at(p) + c, n), n == kLanes ? m : first(m, n));
                squares = Lanes::fma(d, d, squares);
            });
        }
        rstd = 1.0f / __builtin_sqrtf(sum(squares) * share + eps);
    }

    // The first n lanes, zeros in the others.
    static Lanes first(const Lanes& a, int n) {
        float values[kLanes];
        a.store(values);
        return load_first(values, n);
    }

    Lanes operator()(const Lanes& x, const Lanes& weight, const Lanes& bias) const {
        const Lanes d = Lanes::sub(x, Lanes::set(mean));
        return Lanes::fma(Lanes::mul(d, Lanes::set(rstd)), weight, bias);
    }
};

template <class T>
void encode(const flic::cpu::EncodingTask& t, const T* u, T* out) {
    const int side = t.window, positions = side * side, halo = side + 2;
    float* const normed = t.scratch;
    float* const convolved = normed + static_cast<ptrdiff_t>(halo) * halo * t.channels;
    const auto pixel = [&](int p) { return u + p / side * t.row + p % side * t.pixel; };
    const auto inside = [&](int p) {
        return normed + ((p / side + 1) * halo + p % side + 1) * static_cast<ptrdiff_t>(t.channels);
    };
    const auto position = [&](int p) { return convolved + static_cast<ptrdiff_t>(p) * t.channels; };

    const Statistics before(positions, t.channels, t.eps, pixel);
    each_run(t.channels, [&](ptrdiff_t c, int n) {
        const Lanes weight = load_run(t.norm1_weight + c, n), bias = load_run(t.norm1_bias + c, n);
        for (int p = 0; p < positions; ++p) {
            store_run(inside(p) + c, before(load_run(pixel(p) + c, n), weight, bias), n);
        }
    });
    each_run(t.channels, [&](ptrdiff_t c, int n) {
        Lanes weights[9];
        FLIC_UNROLL for (int tap = 0; tap < 9; ++tap) {
            weights[tap] = load_run(t.conv_weight + tap * t.conv_stride + c, n);
        }
        const Lanes bias = load_run(t.conv_bias + c, n);
        for (int p = 0; p < positions; ++p) {
            Lanes total = bias;
            FLIC_UNROLL for (int tap = 0; tap < 9; ++tap) {
                const ptrdiff_t away = ((tap / 3 - 1) * halo + tap % 3 - 1) * t.channels;
                total = Lanes::fma(load_run(inside(p) + away + c, n), weights[tap], total);
            }
            store_run(position(p) + c, total, n);
        }
    });
    const Statistics after(positions, t.channels, t.eps, position);
    each_run(t.channels, [&](ptrdiff_t c, int n) {
        const Lanes weight = load_run(t.norm2_weight + c, n), bias = load_run(t.norm2_bias + c, n);
        for (int p = 0; p < positions; ++p) {
            const Lanes encoded = quick_gelu(after(load_run(position(p) + c, n), weight, bias));
            store_run(out + p * t.out_pixel + c, Lanes::add(load_run(inside(p) + c, n), encoded), n);
        }
    });
}

constexpr flic::cpu::EncodingKernels make_encoding_kernels() {
    return {encode<float>, encode<Bfloat16>};
}

}  // namespace
