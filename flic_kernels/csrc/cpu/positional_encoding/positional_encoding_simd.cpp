// The head of a T-CA layer, compiled for each instruction set.
#include "cpu/positional_encoding/positional_encoding.h"
#include "simd/load_store.h"
#include "simd/quick_functions.h"

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

// A window of one slice in scratch memory: normalised, with a border of zeros, and convolved.
struct EncodingWindow {
    const flic::cpu::EncodingTask& t;
    const int side = t.window, positions = side * side, halo = side + 2;
    float* const normed = t.scratch;
    float* const convolved = normed + static_cast<ptrdiff_t>(halo) * halo * t.channels;

    explicit EncodingWindow(const flic::cpu::EncodingTask& task) : t(task) {}

    template <class T>
    T* pixel(T* u, int p) const {
        return u + p / side * t.row + p % side * t.pixel;
    }
    // Of an array with a border.
    template <class T>
    T* inside(T* bordered, int p) const {
        return bordered +
               ((p / side + 1) * halo + p % side + 1) * static_cast<ptrdiff_t>(t.channels);
    }
    template <class T>
    T* position(T* dense, int p) const {
        return dense + static_cast<ptrdiff_t>(p) * t.channels;
    }
    ptrdiff_t away(int tap) const {
        return ((tap / 3 - 1) * halo + tap % 3 - 1) * static_cast<ptrdiff_t>(t.channels);
    }

    template <class T>
    Statistics normalise(const T* u) const {
        const Statistics s(positions, t.channels, t.eps, [&](int p) { return pixel(u, p); });
        each_run(t.channels, [&](ptrdiff_t c, int n) {
            const Lanes weight = load_run(t.norm1_weight + c, n);
            const Lanes bias = load_run(t.norm1_bias + c, n);
            for (int p = 0; p < positions; ++p) {
                store_run(inside(normed, p) + c, s(load_run(pixel(u, p) + c, n), weight, bias), n);
            }
        });
        return s;
    }

    Statistics convolve() const {
        each_run(t.channels, [&](ptrdiff_t c, int n) {
            Lanes weights[9];
            FLIC_UNROLL for (int tap = 0; tap < 9; ++tap) {
                weights[tap] = load_run(t.conv_weight + tap * t.conv_stride + c, n);
            }
            const Lanes bias = load_run(t.conv_bias + c, n);
            for (int p = 0; p < positions; ++p) {
                Lanes total = bias;
                FLIC_UNROLL for (int tap = 0; tap < 9; ++tap) {
                    const float* const from = inside(normed, p) + away(tap) + c;
                    total = Lanes::fma(load_run(from, n), weights[tap], total);
                }
                store_run(position(convolved, p) + c, total, n);
            }
        });
        return Statistics(positions, t.channels, t.eps,
                          [&](int p) { return position(convolved, p); });
    }
};

template <class T>
void encode(const flic::cpu::EncodingTask& t, const T* u, T* out) {
    const EncodingWindow w(t);
    w.normalise(u);
    const Statistics after = w.convolve();
    each_run(t.channels, [&](ptrdiff_t c, int n) {
        const Lanes weight = load_run(t.norm2_weight + c, n), bias = load_run(t.norm2_bias + c, n);
        for (int p = 0; p < w.positions; ++p) {
            const Lanes x = load_run(w.position(w.convolved, p) + c, n);
            const Lanes encoded = quick_gelu(after(x, weight, bias));
            store_run(out + p * t.out_pixel + c,
                      Lanes::add(load_run(w.inside(w.normed, p) + c, n), encoded), n);
        }
    });
}

// Back through a normalisation over all positions: x(p) and grad(p) give rows of values and of the
// result's gradient, store(p, c, value, n) takes x's gradient. Adds to the weight's and bias's.
template <class X, class Grad, class Store>
void normalise_backward(const Statistics& s, int positions, int channels, const float* weight, X x,
                        Grad grad, float* dweight, float* dbias, Store store) {
    const auto unit = [&](int p, ptrdiff_t c, int n) {
        const Lanes d = Lanes::sub(load_run(x(p) + c, n), Lanes::set(s.mean));
        return Lanes::mul(d, Lanes::set(s.rstd));
    };
    Lanes total = Lanes::set(0.0f), correlation = Lanes::set(0.0f);
    each_run(channels, [&](ptrdiff_t c, int n) {
        Lanes sum_g = Lanes::set(0.0f), sum_gu = Lanes::set(0.0f);
        for (int p = 0; p < positions; ++p) {
            const Lanes g = load_run(grad(p) + c, n);
            sum_g = Lanes::add(sum_g, g);
            sum_gu = Lanes::fma(g, unit(p, c, n), sum_gu);
        }
        store_run(dweight + c, Lanes::add(load_run(dweight + c, n), sum_gu), n);
        store_run(dbias + c, Lanes::add(load_run(dbias + c, n), sum_g), n);
        const Lanes w = load_run(weight + c, n);
        total = Lanes::fma(sum_g, w, total);
        correlation = Lanes::fma(sum_gu, w, correlation);
    });
    const float share = 1.0f / static_cast<float>(positions * channels);
    const Lanes mean_g = Lanes::set(sum(total) * share), r = Lanes::set(s.rstd);
    const Lanes mean_gu = Lanes::set(sum(correlation) * share);
    each_run(channels, [&](ptrdiff_t c, int n) {
        const Lanes w = load_run(weight + c, n);
        for (int p = 0; p < positions; ++p) {
            const Lanes g = Lanes::mul(load_run(grad(p) + c, n), w);
            const Lanes rest = Lanes::fma(unit(p, c, n), mean_gu, mean_g);
            store(p, c, Lanes::mul(Lanes::sub(g, rest), r), n);
        }
    });
}

template <class T>
void encode_backward(const flic::cpu::EncodingTask& t, const T* u, const T* grad, T* du,
                     const flic::cpu::EncodingSums& sums) {
    const EncodingWindow w(t);
    const int positions = w.positions, channels = t.channels;
    const Statistics before = w.normalise(u), after = w.convolve();
    float* const dhidden = w.convolved + static_cast<ptrdiff_t>(positions) * channels;
    float* const dconvolved = dhidden + static_cast<ptrdiff_t>(positions) * channels;  // bordered
    each_run(channels, [&](ptrdiff_t c, int n) {
        const Lanes weight = load_run(t.norm2_weight + c, n), bias = load_run(t.norm2_bias + c, n);
        for (int p = 0; p < positions; ++p) {
            const Lanes hidden = after(load_run(w.position(w.convolved, p) + c, n), weight, bias);
            const Lanes g = Lanes::mul(load_run(grad + p * t.out_pixel + c, n), gelu_slope(hidden));
            store_run(w.position(dhidden, p) + c, g, n);
        }
    });
    normalise_backward(
        after, positions, channels, t.norm2_weight,
        [&](int p) { return w.position(w.convolved, p); },
        [&](int p) { return w.position(dhidden, p); }, sums.norm2_weight, sums.norm2_bias,
        [&](int p, ptrdiff_t c, const Lanes& value, int n) {
            store_run(w.inside(dconvolved, p) + c, value, n);
        });
    // The convolution's parameters, and its input's gradient, which joins grad.
    each_run(channels, [&](ptrdiff_t c, int n) {
        Lanes dweight[9], dbias = load_run(sums.conv_bias + c, n);
        FLIC_UNROLL for (int tap = 0; tap < 9; ++tap) {
            dweight[tap] = load_run(sums.conv_weight + tap * t.conv_stride + c, n);
        }
        for (int p = 0; p < positions; ++p) {
            const Lanes d = load_run(w.inside(dconvolved, p) + c, n);
            dbias = Lanes::add(dbias, d);
            FLIC_UNROLL for (int tap = 0; tap < 9; ++tap) {
                const float* const from = w.inside(w.normed, p) + w.away(tap) + c;
                dweight[tap] = Lanes::fma(d, load_run(from, n), dweight[tap]);
            }
        }
        store_run(sums.conv_bias + c, dbias, n);
        FLIC_UNROLL for (int tap = 0; tap < 9; ++tap) {
            store_run(sums.conv_weight + tap * t.conv_stride + c, dweight[tap], n);
        }
    });
    each_run(channels, [&](ptrdiff_t c, int n) {
        Lanes weights[9];
        FLIC_UNROLL for (int tap = 0; tap < 9; ++tap) {
            weights[tap] = load_run(t.conv_weight + tap * t.conv_stride + c, n);
        }
        for (int p = 0; p < positions; ++p) {
            Lanes total = load_run(grad + p * t.out_pixel + c, n);
            FLIC_UNROLL for (int tap = 0; tap < 9; ++tap) {
                const float* const from = w.inside(dconvolved, p) + w.away(8 - tap) + c;
                total = Lanes::fma(load_run(from, n), weights[tap], total);
            }
            store_run(w.position(dhidden, p) + c, total, n);
        }
    });
    normalise_backward(
        before, positions, channels, t.norm1_weight, [&](int p) { return w.pixel(u, p); },
        [&](int p) { return w.position(dhidden, p); }, sums.norm1_weight, sums.norm1_bias,
        [&](int p, ptrdiff_t c, const Lanes& value, int n) {
            store_run(w.pixel(du, p) + c, value, n);
        });
}

}  // namespace

namespace flic::cpu::FLIC_ISA {

const EncodingKernels positional_encoding = {encode<float>, encode<Bfloat16>,
                                             encode_backward<float>, encode_backward<Bfloat16>};

}  // namespace flic::cpu::FLIC_ISA
