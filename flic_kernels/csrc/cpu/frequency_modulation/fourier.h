// Fourier transforms of 2, 4, 8 and 16 values on sixteen lanes, without normalisation, for the
// instruction set of the including file. Everything is unrolled: the twiddles are constants.
#pragma once
#include "simd/arithmetic.h"

namespace {

struct Complex {
    Lanes re, im;
};

FLIC_INLINE Complex add(const Complex& a, const Complex& b) {
    return {Lanes::add(a.re, b.re), Lanes::add(a.im, b.im)};
}
FLIC_INLINE Complex sub(const Complex& a, const Complex& b) {
    return {Lanes::sub(a.re, b.re), Lanes::sub(a.im, b.im)};
}
FLIC_INLINE Complex mul(const Complex& a, const Complex& b) {
    return {Lanes::fnma(a.im, b.im, Lanes::mul(a.re, b.re)),
            Lanes::fma(a.re, b.im, Lanes::mul(a.im, b.re))};
}
// conj(a) b
FLIC_INLINE Complex conjugate_mul(const Complex& a, const Complex& b) {
    return {Lanes::fma(a.im, b.im, Lanes::mul(a.re, b.re)),
            Lanes::fnma(a.im, b.re, Lanes::mul(a.re, b.im))};
}

// cos(2 pi k / 16)
constexpr float kCosine[16] = {1.0f,  0.923879533f,  0.707106781f,  0.382683432f,
                               0.0f,  -0.382683432f, -0.707106781f, -0.923879533f,
                               -1.0f, -0.923879533f, -0.707106781f, -0.382683432f,
                               0.0f,  0.382683432f,  0.707106781f,  0.923879533f};

// a exp(-2 pi i k / 16), or its inverse's conjugate factor.
template <bool INVERSE>
FLIC_INLINE Complex twiddle(const Complex& a, int k) {
    if (k == 0) return a;
    if (k == 4) {
        const Lanes zero = Lanes::set(0.0f);
        return INVERSE ? Complex{Lanes::sub(zero, a.im), a.re}
                       : Complex{a.im, Lanes::sub(zero, a.re)};
    }
    const Lanes c = Lanes::set(kCosine[k]), s = Lanes::set(kCosine[(k + 12) % 16]);
    if (INVERSE) {
        return {Lanes::fnma(a.im, s, Lanes::mul(a.re, c)),
                Lanes::fma(a.re, s, Lanes::mul(a.im, c))};
    }
    return {Lanes::fma(a.im, s, Lanes::mul(a.re, c)), Lanes::fnma(a.re, s, Lanes::mul(a.im, c))};
}

// N values from x, STEP apart, in place.
template <int N, int STEP, bool INVERSE>
FLIC_INLINE void butterfly(Complex* x) {
    if constexpr (N == 2) {
        const Complex a = x[0], b = x[STEP];
        x[0] = add(a, b);
        x[STEP] = sub(a, b);
    } else if constexpr (N == 4) {
        const Complex a = add(x[0], x[2 * STEP]), b = sub(x[0], x[2 * STEP]);
        const Complex c = add(x[STEP], x[3 * STEP]), d = sub(x[STEP], x[3 * STEP]);
        const Complex plus = {Lanes::add(b.re, d.im), Lanes::sub(b.im, d.re)};   // b - i d
        const Complex minus = {Lanes::sub(b.re, d.im), Lanes::add(b.im, d.re)};  // b + i d
        x[0] = add(a, c);
        x[STEP] = INVERSE ? minus : plus;
        x[2 * STEP] = sub(a, c);
        x[3 * STEP] = INVERSE ? plus : minus;
    }
}

// Complex transform of N = 1, 2, 4, 8 or 16 values, in place and in natural order.
template <int N, bool INVERSE>
FLIC_INLINE void transform(Complex (&x)[N]) {
    if constexpr (N <= 4) {
        butterfly<N, 1, INVERSE>(x);
    } else {
        // N = 4 R: transforms of 4 over every R-th value, twiddles, transforms of R.
        constexpr int R = N / 4;
        FLIC_UNROLL for (int n = 0; n < R; ++n) {
            butterfly<4, R, INVERSE>(x + n);
            FLIC_UNROLL for (int k = 0; k < 4; ++k) {
                x[n + R * k] = twiddle<INVERSE>(x[n + R * k], n * k * (16 / N));
            }
        }
        Complex y[N];
        FLIC_UNROLL for (int k = 0; k < 4; ++k) {
            butterfly<R, 1, INVERSE>(x + R * k);
            FLIC_UNROLL for (int n = 0; n < R; ++n) y[k + 4 * n] = x[R * k + n];
        }
        FLIC_UNROLL for (int n = 0; n < N; ++n) x[n] = y[n];
    }
}

// Where bin 4 m + 1 of N real values stands: its own place, or as the conjugate of bin N - 4 m - 1.
template <int N>
constexpr int odd_bin(int m) {
    return 4 * m + 1 < N / 2 ? 4 * m + 1 : N - 4 * m - 1;
}

// Real transform of N = 2, 4, 8 or 16 values. out: bin 0, bin N / 2, then bins 1, 2, ... as real
// and imaginary parts.
template <int N>
FLIC_INLINE void real_transform(const Lanes (&x)[N], Lanes (&out)[N]) {
    if constexpr (N == 2) {
        out[0] = Lanes::add(x[0], x[1]);
        out[1] = Lanes::sub(x[0], x[1]);
    } else {
        // Even bins: the sums of values half a period apart. Odd bins: the differences b, where
        // bins 1, 5, 9, ... are the transform of (b[n] - i b[n + N / 4]) exp(-2 pi i n / N).
        constexpr int H = N / 2, Q = N / 4;
        Lanes sums[H], even[H];
        Complex odd[Q];
        FLIC_UNROLL for (int n = 0; n < H; ++n) sums[n] = Lanes::add(x[n], x[n + H]);
        FLIC_UNROLL for (int n = 0; n < Q; ++n) {
            const Complex b = {Lanes::sub(x[n], x[n + H]), Lanes::sub(x[n + Q + H], x[n + Q])};
            odd[n] = twiddle<false>(b, n * (16 / N));
        }
        real_transform<H>(sums, even);
        transform<Q, false>(odd);
        out[0] = even[0];
        out[1] = even[1];
        FLIC_UNROLL for (int k = 1; k < Q; ++k) {
            out[4 * k] = even[2 * k];
            out[4 * k + 1] = even[2 * k + 1];
        }
        FLIC_UNROLL for (int m = 0; m < Q; ++m) {
            const int bin = odd_bin<N>(m);
            out[2 * bin] = odd[m].re;
            out[2 * bin + 1] = 4 * m + 1 < H ? odd[m].im : Lanes::sub(Lanes::set(0.0f), odd[m].im);
        }
    }
}

// The reverse, times N.
template <int N>
FLIC_INLINE void real_inverse(const Lanes (&in)[N], Lanes (&x)[N]) {
    if constexpr (N == 2) {
        x[0] = Lanes::add(in[0], in[1]);
        x[1] = Lanes::sub(in[0], in[1]);
    } else {
        constexpr int H = N / 2, Q = N / 4;
        Lanes even[H], sums[H];
        Complex odd[Q];
        even[0] = in[0];
        even[1] = in[1];
        FLIC_UNROLL for (int k = 1; k < Q; ++k) {
            even[2 * k] = in[4 * k];
            even[2 * k + 1] = in[4 * k + 1];
        }
        FLIC_UNROLL for (int m = 0; m < Q; ++m) {
            const int bin = odd_bin<N>(m);
            odd[m] = {in[2 * bin], 4 * m + 1 < H ? in[2 * bin + 1]
                                                 : Lanes::sub(Lanes::set(0.0f), in[2 * bin + 1])};
        }
        real_inverse<H>(even, sums);
        transform<Q, true>(odd);
        const Lanes two = Lanes::set(2.0f);
        FLIC_UNROLL for (int n = 0; n < Q; ++n) {
            const Complex b = twiddle<true>(odd[n], n * (16 / N));
            x[n] = Lanes::fma(two, b.re, sums[n]);
            x[n + H] = Lanes::fnma(two, b.re, sums[n]);
            x[n + Q] = Lanes::fnma(two, b.im, sums[n + Q]);
            x[n + Q + H] = Lanes::fma(two, b.im, sums[n + Q]);
        }
    }
}

}  // namespace
