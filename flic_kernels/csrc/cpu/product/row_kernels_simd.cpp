// The row kernels, compiled for each instruction set.
#include "cpu/product/row_kernels.h"
#include "simd/load_store.h"
#include "simd/quick_functions.h"

namespace {

template <class In>
void square_row(const In* x, float* out, ptrdiff_t count) {
    each_run(count, [&](ptrdiff_t i, int n) {
        const Lanes v = load_run(x + i, n);
        store_run(out + i, Lanes::mul(v, v), n);
    });
}

template <class T>
void add_row(const T* a, const T* b, T* out, ptrdiff_t count) {
    each_run(count, [&](ptrdiff_t i, int n) {
        store_run(out + i, Lanes::add(load_run(a + i, n), load_run(b + i, n)), n);
    });
}

void add_rows(const float* a, ptrdiff_t a_stride, const float* b, ptrdiff_t b_stride, int rows,
              int channels, float* out, ptrdiff_t out_stride) {
    for (; rows > 0; --rows, a += a_stride, b += b_stride, out += out_stride) {
        add_row(a, b, out, channels);
    }
}

void gelu_row(const float* x, float* out, ptrdiff_t count) {
    each_run(count,
             [&](ptrdiff_t i, int n) { store_run(out + i, quick_gelu(load_run(x + i, n)), n); });
}

void leaky_relu_row(const float* x, float* out, ptrdiff_t count) {
    each_run(count,
             [&](ptrdiff_t i, int n) { store_run(out + i, leaky_relu(load_run(x + i, n)), n); });
}

void to_bfloat16_row(const float* x, Bfloat16* out, ptrdiff_t count) {
    each_run(count, [&](ptrdiff_t i, int n) { store_run(out + i, load_run(x + i, n), n); });
}

// Two passes over a row, which is in cache: the mean, then the squared differences from it.
void layer_norm(const float* in, ptrdiff_t in_stride, int rows, int channels, const float* weight,
                const float* bias, float eps, float* out, ptrdiff_t out_stride, bool padded) {
    const int whole = channels / kLanes * kLanes, left = channels - whole;
    const float share = 1.0f / static_cast<float>(channels);
    for (; rows > 0; --rows, in += in_stride, out += out_stride) {
        Lanes total = left ? load_first(in + whole, left) : Lanes::set(0.0f);
        for (int c = 0; c < whole; c += kLanes) total = Lanes::add(total, Lanes::load(in + c));
        const Lanes mean = Lanes::set(sum(total) * share);
        Lanes squares = Lanes::set(0.0f);
        for (int c = 0; c < whole; c += kLanes) {
            const Lanes d = Lanes::sub(Lanes::load(in + c), mean);
            squares = Lanes::fma(d, d, squares);
        }
        float rest = 0.0f;
        for (int c = whole; c < channels; ++c) {
            float d[kLanes];
            mean.store(d);
            rest += (in[c] - d[0]) * (in[c] - d[0]);
        }
        const float variance = (sum(squares) + rest) * share;
        const Lanes deviation = Lanes::set(1.0f / __builtin_sqrtf(variance + eps));
        const auto normalised = [&](Lanes x, Lanes w, Lanes b) {
            return Lanes::fma(Lanes::mul(Lanes::sub(x, mean), deviation), w, b);
        };
        for (int c = 0; c < whole; c += kLanes) {
            normalised(Lanes::load(in + c), Lanes::load(weight + c), Lanes::load(bias + c))
                .store(out + c);
        }
        if (left) {
            const Lanes last =
                normalised(load_first(in + whole, left), load_first(weight + whole, left),
                           load_first(bias + whole, left));
            if (padded) {
                last.store(out + whole);  // weight and bias are zero beyond the channels
            } else {
                store_first(out + whole, last, left);
            }
        }
    }
}

}  // namespace

namespace flic::cpu::FLIC_ISA {

const RowKernels rows = {layer_norm,        add_rows, square_row<float>, square_row<Bfloat16>,
                         add_row<Bfloat16>, gelu_row, leaky_relu_row,    to_bfloat16_row};

}  // namespace flic::cpu::FLIC_ISA
