// Frequency modulation's kernels, compiled for each instruction set.
#include "cpu/frequency_modulation/fourier.h"
#include "cpu/frequency_modulation/frequency_modulation.h"
#include "simd/load_store.h"

namespace {

using flic::cpu::kGroup;
using flic::cpu::ModulationKernels;
using flic::cpu::Pixels;
using flic::cpu::PixelsOut;

static_assert(kGroup == kLanes, "a group fills the lanes");

// A window's values or spectrum for 16 channels: P rows of P lanes. A spectrum's row holds columns
// 0 and P / 2 as one complex number, then columns 1, 2, ... as real and imaginary parts.
template <int P>
struct Window {
    float* data;

    FLIC_INLINE Lanes load(int row, int place) const {
        return Lanes::load(data + (row * P + place) * kGroup);
    }
    FLIC_INLINE void store(int row, int place, const Lanes& value) const {
        value.store(data + (row * P + place) * kGroup);
    }

    // Spectra of the rows of `count` channels from `channel`.
    void transform_rows(const Pixels& from, int channel, int count) const {
        for (int y = 0; y < P; ++y) {
            Lanes x[P], bins[P];
            FLIC_UNROLL for (int n = 0; n < P; ++n) {
                x[n] = load_elements(from.data, from.element,
                                     y * from.row + n * from.token + channel, count);
            }
            real_transform<P>(x, bins);
            FLIC_UNROLL for (int n = 0; n < P; ++n) store(y, n, bins[n]);
        }
    }

    void inverse_rows(const Pixels& residual, const PixelsOut& to, int channel, int count) const {
        for (int y = 0; y < P; ++y) {
            Lanes x[P], bins[P];
            FLIC_UNROLL for (int n = 0; n < P; ++n) bins[n] = load(y, n);
            real_inverse<P>(bins, x);
            if (residual.data) {
                FLIC_UNROLL for (int n = 0; n < P; ++n) {
                    x[n] = Lanes::add(
                        x[n],
                        load_elements(residual.data, residual.element,
                                      y * residual.row + n * residual.token + channel, count));
                }
            }
            FLIC_UNROLL for (int n = 0; n < P; ++n) {
                store_elements(to.data, to.element, y * to.row + n * to.token + channel, x[n],
                               count);
            }
        }
    }

    FLIC_INLINE void load_column(int column, Complex (&z)[P]) const {
        FLIC_UNROLL for (int k = 0; k < P; ++k) {
            z[k] = {load(k, 2 * column), load(k, 2 * column + 1)};
        }
    }
    FLIC_INLINE void store_column(int column, const Complex (&z)[P]) const {
        FLIC_UNROLL for (int k = 0; k < P; ++k) {
            store(k, 2 * column, z[k].re);
            store(k, 2 * column + 1, z[k].im);
        }
    }
    void transform_columns() const {
        for (int column = 0; column < P / 2; ++column) {
            Complex z[P];
            load_column(column, z);
            transform<P, false>(z);
            store_column(column, z);
        }
    }
};

FLIC_INLINE Complex load_complex(const float* p) {
    return {Lanes::load(p), Lanes::load(p + kGroup)};
}

// z[k] u[k] + conj(z[-k]) v[k]: columns 0 and P / 2 together (prepare_weight makes u and v).
template <int P>
FLIC_INLINE void weigh_packed(const float* weight, Complex (&z)[P]) {
    Complex y[P];
    FLIC_UNROLL for (int k = 0; k < P; ++k) {
        const Complex u = load_complex(weight + 4 * k * kGroup);
        const Complex v = load_complex(weight + (4 * k + 2) * kGroup);
        const Complex direct = mul(z[k], u), mirrored = conjugate_mul(z[(P - k) % P], v);
        y[k] = add(direct, mirrored);
    }
    FLIC_UNROLL for (int k = 0; k < P; ++k) z[k] = y[k];
}

// Columns' spectra times the weight, and back to rows' spectra. TRANSFORM: from rows' spectra.
template <int P, bool TRANSFORM>
void weigh_columns(const Window<P>& window, const float* weight) {
    for (int column = 0; column < P / 2; ++column) {
        Complex z[P];
        window.load_column(column, z);
        if (TRANSFORM) transform<P, false>(z);
        if (column == 0) {
            weigh_packed<P>(weight, z);
            weight += 4 * P * kGroup;
        } else {
            FLIC_UNROLL for (int k = 0; k < P; ++k) {
                z[k] = mul(z[k], load_complex(weight + 2 * k * kGroup));
            }
            weight += 2 * P * kGroup;
        }
        transform<P, true>(z);
        window.store_column(column, z);
    }
}

template <int P>
void modulate_window(int channels, const float* weight, const Pixels& x, const Pixels& residual,
                     const PixelsOut& out) {
    alignas(64) float memory[P * P * kGroup];
    const Window<P> window = {memory};
    for (int channel = 0; channel < channels; channel += kGroup) {
        const int count = channels - channel < kGroup ? channels - channel : kGroup;
        window.transform_rows(x, channel, count);
        weigh_columns<P, true>(window, weight);
        window.inverse_rows(residual, out, channel, count);
        weight += P * (P + 2) * kGroup;
    }
}

FLIC_INLINE void add_to(float* sums, const Complex& value) {
    Lanes::add(Lanes::load(sums), value.re).store(sums);
    Lanes::add(Lanes::load(sums + kGroup), value.im).store(sums + kGroup);
}

// sums += conj(x's spectrum) times grad's. Of columns 0 and P / 2, rows 0 to P / 2 and four times
// as much.
template <int P>
void correlate(const Window<P>& x, const Window<P>& grad, float* sums) {
    for (int k = 0; k <= P / 2; ++k) {
        const int m = (P - k) % P;
        const Complex a = {x.load(k, 0), x.load(k, 1)}, b = {x.load(m, 0), x.load(m, 1)};
        const Complex c = {grad.load(k, 0), grad.load(k, 1)},
                      d = {grad.load(m, 0), grad.load(m, 1)};
        // a + conj(b) is twice column 0, a - conj(b) is 2 i times column P / 2
        add_to(sums, conjugate_mul({Lanes::add(a.re, b.re), Lanes::sub(a.im, b.im)},
                                   {Lanes::add(c.re, d.re), Lanes::sub(c.im, d.im)}));
        add_to(sums + 2 * kGroup, conjugate_mul({Lanes::sub(a.re, b.re), Lanes::add(a.im, b.im)},
                                                {Lanes::sub(c.re, d.re), Lanes::add(c.im, d.im)}));
        sums += 4 * kGroup;
    }
    for (int column = 1; column < P / 2; ++column) {
        for (int k = 0; k < P; ++k, sums += 2 * kGroup) {
            add_to(sums, conjugate_mul({x.load(k, 2 * column), x.load(k, 2 * column + 1)},
                                       {grad.load(k, 2 * column), grad.load(k, 2 * column + 1)}));
        }
    }
}

template <int P>
void modulate_window_backward(int channels, const float* weight, const Pixels& grad,
                              const Pixels& x, const PixelsOut& dx, float* sums) {
    alignas(64) float memory[2][P * P * kGroup];
    const Window<P> window = {memory[0]}, gradient = {memory[1]};
    for (int channel = 0; channel < channels; channel += kGroup) {
        const int count = channels - channel < kGroup ? channels - channel : kGroup;
        window.transform_rows(x, channel, count);
        window.transform_columns();
        gradient.transform_rows(grad, channel, count);
        gradient.transform_columns();
        correlate(window, gradient, sums);
        weigh_columns<P, false>(gradient, weight);
        gradient.inverse_rows({}, dx, channel, count);
        weight += P * (P + 2) * kGroup;
        sums += (P * P + 4) * kGroup;
    }
}

void modulate(int size, int channels, const float* weight, const Pixels& x, const Pixels& residual,
              const PixelsOut& out) {
    switch (size) {
        case 2: return modulate_window<2>(channels, weight, x, residual, out);
        case 4: return modulate_window<4>(channels, weight, x, residual, out);
        case 8: return modulate_window<8>(channels, weight, x, residual, out);
        default: return modulate_window<16>(channels, weight, x, residual, out);
    }
}

void modulate_backward(int size, int channels, const float* weight, const Pixels& grad,
                       const Pixels& x, const PixelsOut& dx, float* sums) {
    switch (size) {
        case 2: return modulate_window_backward<2>(channels, weight, grad, x, dx, sums);
        case 4: return modulate_window_backward<4>(channels, weight, grad, x, dx, sums);
        case 8: return modulate_window_backward<8>(channels, weight, grad, x, dx, sums);
        default: return modulate_window_backward<16>(channels, weight, grad, x, dx, sums);
    }
}

}  // namespace

namespace flic::cpu::FLIC_ISA {

const ModulationKernels frequency_modulation = {modulate, modulate_backward};

}  // namespace flic::cpu::FLIC_ISA
