// The exact engine's functions: polynomials in fma, the same bits wherever fma, multiply and divide
// are IEEE.
//
// V is any type with the operations of Lanes (lanes.h); the CUDA kernels use one lane a thread.
// FLIC_FUNCTION is how such a function is declared for the including compiler.
#pragma once
#ifndef FLIC_FUNCTION
#define FLIC_FUNCTION inline __attribute__((always_inline))
#endif

namespace {

// c[0] + c[1] x + ... by Horner's rule.
template <class V, int N>
FLIC_FUNCTION V polynomial(V x, const float (&c)[N]) {
    V r = V::fma(x, V::set(c[N - 1]), V::set(c[N - 2]));
    for (int i = N - 3; i >= 0; --i) r = V::fma(r, x, V::set(c[i]));
    return r;
}

// e^x for x <= 0; below -87 it stays at e^-87. Relative error at most 8e-8. NaN stays NaN.
//
// n = x / ln 2 rounded to an integer by adding 1.5 * 2^23; r = x - n ln 2 with ln 2 in two parts.
template <class V>
FLIC_FUNCTION V exp_nonpositive(V x) {
    const float coefficients[7] = {1.0f,           1.0f,           0x1.fffffcp-2f, 0x1.555492p-3f,
                                   0x1.5558f2p-5f, 0x1.1239e2p-7f, 0x1.6a2432p-10f};
    x = V::max(V::set(-87.0f), x);
    const V shifted = V::fma(x, V::set(0x1.715476p+0f), V::set(0x1.8p23f));
    const V n = V::add(shifted, V::set(-0x1.8p23f));
    V r = V::fma(n, V::set(-0x1.62e4p-1f), x);
    r = V::fma(n, V::set(-0x1.7f7d1cp-20f), r);
    return V::mul(polynomial(r, coefficients), V::power_of_two(shifted));
}

// x * Phi(x), Phi(x) = (1 + erf(x / sqrt 2)) / 2, as x * h + x / 2 with h = c P(c^2) / Q(c^2), an
// odd rational approximation of Phi - 1/2 on |c| <= 5.4. Absolute error at most 2e-7 |x|.
template <class V>
FLIC_FUNCTION V gelu(V x) {
    const float numerator[6] = {0x1.988450p-2f,  0x1.116288p-5f,  0x1.30cc4cp-8f,
                                0x1.589b4ep-13f, 0x1.aad054p-18f, 0x1.91c83ep-26f};
    const float denominator[6] = {
        1.0f, 0x1.00534cp-2f, 0x1.d0f4bcp-6f, 0x1.e751fap-10f, 0x1.2faafap-14f, 0x1.4693a2p-20f};
    const V bound = V::set(0x1.59999ap+2f);
    const V c = V::min(V::max(x, V::set(-0x1.59999ap+2f)), bound);
    const V square = V::mul(c, c);
    const V h = V::div(V::mul(c, polynomial(square, numerator)), polynomial(square, denominator));
    return V::fma(x, h, V::mul(x, V::set(0.5f)));
}

// x where x > 0, else 0.01 x (the greater of the two).
template <class V>
FLIC_FUNCTION V leaky_relu(V x) {
    return V::max(x, V::mul(x, V::set(0.01f)));
}

}  // namespace
