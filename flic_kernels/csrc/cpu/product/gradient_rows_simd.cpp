// The row kernels of backward passes, compiled for each instruction set.
#include "cpu/product/gradient_rows.h"
#include "cpu/product/outer_product.h"
#include "simd/load_store.h"
#include "simd/quick_functions.h"

namespace {

void gelu_gradient(const float* x, const float* grad, float* out, ptrdiff_t count) {
    each_run(count, [&](ptrdiff_t i, int n) {
        const Lanes slope = gelu_slope(load_run(x + i, n));
        store_run(out + i, Lanes::mul(load_run(grad + i, n), slope), n);
    });
}

// With u = (x - mean) / deviation and g = grad * weight: dx = (g - mean(g) - u mean(g u)) /
// deviation.
void layer_norm_gradient(const float* x, const float* grad, int rows, int channels,
                         const float* weight, float eps, float* dx, float* dweight, float* dbias) {
    const float share = 1.0f / static_cast<float>(channels);
    for (; rows > 0; --rows, x += channels, grad += channels, dx += channels) {
        Lanes total = Lanes::set(0.0f);
        each_run(channels,
                 [&](ptrdiff_t c, int n) { total = Lanes::add(total, load_run(x + c, n)); });
        const float mean = sum(total) * share;
        float squares = 0.0f;
        Lanes chain = Lanes::set(0.0f);
        each_run(channels, [&](ptrdiff_t c, int n) {
            if (n == kLanes) {
                const Lanes d = Lanes::sub(load(x + c), Lanes::set(mean));
                chain = Lanes::fma(d, d, chain);
            } else {
                for (int i = 0; i < n; ++i) squares += (x[c + i] - mean) * (x[c + i] - mean);
            }
        });
        const float variance = (squares + sum(chain)) * share;
        const Lanes m = Lanes::set(mean), r = Lanes::set(1.0f / __builtin_sqrtf(variance + eps));
        const auto normalised = [&](ptrdiff_t c, int n) {
            return Lanes::mul(Lanes::sub(load_run(x + c, n), m), r);
        };
        Lanes sum_g = Lanes::set(0.0f), sum_gu = Lanes::set(0.0f);
        each_run(channels, [&](ptrdiff_t c, int n) {
            const Lanes given = load_run(grad + c, n), u = normalised(c, n);
            const Lanes g = Lanes::mul(given, load_run(weight + c, n));
            sum_g = Lanes::add(sum_g, g);
            sum_gu = Lanes::fma(g, u, sum_gu);
            store_run(dweight + c, Lanes::fma(given, u, load_run(dweight + c, n)), n);
            store_run(dbias + c, Lanes::add(given, load_run(dbias + c, n)), n);
        });
        const Lanes mean_g = Lanes::set(sum(sum_g) * share);
        const Lanes mean_gu = Lanes::set(sum(sum_gu) * share);
        each_run(channels, [&](ptrdiff_t c, int n) {
            const Lanes g = Lanes::mul(load_run(grad + c, n), load_run(weight + c, n));
            const Lanes rest = Lanes::fma(normalised(c, n), mean_gu, mean_g);
            store_run(dx + c, Lanes::mul(Lanes::sub(g, rest), r), n);
        });
    }
}

void gdn_gradient(const float* x, const float* grad, const float* norm, bool inverse, float* direct,
                  float* dnorm, ptrdiff_t count) {
    each_run(count, [&](ptrdiff_t i, int n) {
        const Lanes given = load_run(grad + i, n), sum_of_squares = load_run(norm + i, n);
        const Lanes r = reciprocal_root(sum_of_squares);
        const Lanes gx = Lanes::mul(given, load_run(x + i, n));
        Lanes factor, slope;
        if (inverse) {
            factor = Lanes::sqrt(sum_of_squares);
            slope = Lanes::mul(Lanes::set(0.5f), r);
        } else {
            factor = r;
            slope = Lanes::mul(Lanes::mul(Lanes::set(-0.5f), r), Lanes::mul(r, r));
        }
        store_run(direct + i, Lanes::mul(given, factor), n);
        store_run(dnorm + i, Lanes::mul(gx, slope), n);
    });
}

void add_squares(const float* direct, const float* x, const float* dsquares, float* out,
                 ptrdiff_t count) {
    each_run(count, [&](ptrdiff_t i, int n) {
        const Lanes twice = Lanes::mul(Lanes::set(2.0f), load_run(x + i, n));
        store_run(out + i, Lanes::fma(twice, load_run(dsquares + i, n), load_run(direct + i, n)),
                  n);
    });
}

void add_columns(const float* in, ptrdiff_t stride, int rows, int columns, float* sums) {
    each_run(columns, [&](ptrdiff_t c, int n) {
        Lanes total = load_run(sums + c, n);
        for (ptrdiff_t r = 0; r < rows; ++r) {
            total = Lanes::add(total, load_run(in + r * stride + c, n));
        }
        store_run(sums + c, total, n);
    });
}

void widen_row(const Bfloat16* in, float* out, ptrdiff_t count) {
    each_run(count, [&](ptrdiff_t i, int n) { store_run(out + i, load_run(in + i, n), n); });
}

FLIC_INLINE bool is_positive(float x) { return x > 0.0f; }
FLIC_INLINE bool is_positive(Bfloat16 x) { return static_cast<int16_t>(x) > 0; }

template <class T>
void leaky_gradient(const T* grad, const T* out, T* to, ptrdiff_t count) {
    each_run(count, [&](ptrdiff_t i, int n) {
        const Lanes g = load_run(grad + i, n);
        float slopes[kLanes] = {};
        for (int j = 0; j < n; ++j) slopes[j] = is_positive(out[i + j]) ? 1.0f : 0.01f;
        store_run(to + i, Lanes::mul(g, Lanes::load(slopes)), n);
    });
}

}  // namespace

namespace flic::cpu::FLIC_ISA {

const GradientRows gradient_rows = {
    gelu_gradient, layer_norm_gradient, gdn_gradient,          add_squares,
    add_columns,   add_outer,           leaky_gradient<float>, leaky_gradient<Bfloat16>,
    widen_row};

}  // namespace flic::cpu::FLIC_ISA
