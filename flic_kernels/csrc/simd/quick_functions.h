// Activations on sixteen lanes, for the instruction set of the including file. They need not give
// the same bits everywhere, so quotients are quick ones.
#pragma once
#include "simd/arithmetic.h"
#include "simd/functions.h"

namespace {

#if defined(FLIC_LANES_AVX512)

// Phi(a) - 1/2 on 32 intervals around n / 5.8 as cubics in t = 5.8 a - n, |t| <= 1/2, whose
// greatest error times a is least (1.4e-7); the last is 1/2, so that great |x| give x and 0.
alignas(64) constexpr float kNormalCubics[4][32] = {
    {
        0.0f,
        6.84438422e-02f,
        1.34887904e-01f,
        1.97506025e-01f,
        2.54794300e-01f,
        3.05675060e-01f,
        3.49544615e-01f,
        3.86263907e-01f,
        4.16100383e-01f,
        4.39635843e-01f,
        4.57658529e-01f,
        4.71056461e-01f,
        4.80725378e-01f,
        4.87499297e-01f,
        4.92106318e-01f,
        4.95148093e-01f,
        4.97097731e-01f,
        4.98310864e-01f,
        4.99043614e-01f,
        4.99473304e-01f,
        4.99717921e-01f,
        4.99853104e-01f,
        4.99925613e-01f,
        4.99963373e-01f,
        4.99982476e-01f,
        4.99991864e-01f,
        4.99996305e-01f,
        4.99998391e-01f,
        4.99999315e-01f,
        4.99999702e-01f,
        4.99999881e-01f,
        0.5f,
    },
    {
        6.87831938e-02f, 6.77681491e-02f, 6.48127794e-02f, 6.01707771e-02f,
        5.42251281e-02f, 4.74357270e-02f, 4.02810201e-02f, 3.32036130e-02f,
        2.65680794e-02f, 2.06359718e-02f, 1.55589208e-02f, 1.13873882e-02f,
        8.09018686e-03f, 5.57933934e-03f, 3.73505382e-03f, 2.42717308e-03f,
        1.53106754e-03f, 9.37513891e-04f, 5.57250867e-04f, 3.21524014e-04f,
        1.80080096e-04f, 9.79056131e-05f, 5.16700638e-05f, 2.64703613e-05f,
        1.31634642e-05f, 6.35433162e-06f, 2.97754877e-06f, 1.35436960e-06f,
        5.98004874e-07f, 2.56307544e-07f, 1.06636840e-07f, 0.0f,
    },
    {
        -4.43675248e-07f, -1.00552279e-03f, -1.92327658e-03f, -2.67849909e-03f,
        -3.21883592e-03f, -3.52033926e-03f, -3.58796190e-03f, -3.45130055e-03f,
        -3.15695885e-03f, -2.75944453e-03f, -2.31252331e-03f, -1.86247216e-03f,
        -1.44409703e-03f, -1.07939984e-03f, -7.78568443e-04f, -5.42370020e-04f,
        -3.65145475e-04f, -2.37707151e-04f, -1.49699059e-04f, -9.12345422e-05f,
        -5.38270542e-05f, -3.07511036e-05f, -1.70153435e-05f, -9.12070209e-06f,
        -4.73696218e-06f, -2.38409029e-06f, -1.16293609e-06f, -5.49859635e-07f,
        -2.52033004e-07f, -1.11999100e-07f, -4.82570499e-08f, 0.0f,
    },
    {
        -3.39695805e-04f, -3.24246008e-04f, -2.81644723e-04f, -2.17351291e-04f,
        -1.40188757e-04f, -5.99863633e-05f, 1.41058481e-05f,  7.50173422e-05f,
        1.18577998e-04f,  1.43671990e-04f,  1.51822518e-04f,  1.46303340e-04f,
        1.31349007e-04f,  1.11145331e-04f,  8.92842509e-05f,  6.84147017e-05f,
        5.01722898e-05f,  3.53000250e-05f,  2.38714765e-05f,  1.55379475e-05f,
        9.74555405e-06f,  5.89538467e-06f,  3.44218006e-06f,  1.94106156e-06f,
        1.05768220e-06f,  5.57151111e-07f,  2.83829735e-07f,  1.39878878e-07f,
        6.67081608e-08f,  3.07925134e-08f,  1.37610128e-08f,  0.0f,
    },
};

// Phi(a) - 1/2 for a >= 0.
FLIC_INLINE __m512 normal_above_half(__m512 a) {
    const __m512 c = _mm512_maskz_min_ps(Lanes::kAll, a, _mm512_set1_ps(31.49f / 5.8f));
    const __m512 magic = _mm512_set1_ps(0x1.8p23f), scale = _mm512_set1_ps(5.8f);
    const __m512 shifted = _mm512_fmadd_ps(c, scale, magic);  // n in its lowest bits
    const __m512 t = _mm512_fmsub_ps(c, scale, _mm512_sub_ps(shifted, magic));
    const auto coefficient = [&](int k) {
        return _mm512_permutex2var_ps(_mm512_load_ps(kNormalCubics[k]),
                                      _mm512_castps_si512(shifted),
                                      _mm512_load_ps(kNormalCubics[k] + 16));
    };
    __m512 h = _mm512_fmadd_ps(coefficient(3), t, coefficient(2));
    h = _mm512_fmadd_ps(h, t, coefficient(1));
    return _mm512_fmadd_ps(h, t, coefficient(0));
}

// Phi(x) - 1/2. Absolute error at most 1e-6.
FLIC_INLINE Lanes quick_normal(Lanes x) {
    const __m512 sign = _mm512_and_ps(x.v, _mm512_set1_ps(-0.0f));
    return {_mm512_xor_ps(normal_above_half(_mm512_abs_ps(x.v)), sign)};
}

// x Phi(x) = |x| (Phi(|x|) - 1/2) + x / 2. Absolute error at most 4e-7 max(1, |x|).
FLIC_INLINE Lanes quick_gelu(Lanes x) {
    const __m512 a = _mm512_abs_ps(x.v);
    const __m512 half = _mm512_mul_ps(x.v, _mm512_set1_ps(0.5f));
    return {_mm512_fmadd_ps(a, normal_above_half(a), half)};
}

#else

// Phi(x) - 1/2: the exact engine's rational approximation (functions.h), with a quick
// reciprocal. Absolute error at most 3e-7.
FLIC_INLINE Lanes quick_normal(Lanes x) {
    const float numerator[6] = {0x1.988450p-2f,  0x1.116288p-5f,  0x1.30cc4cp-8f,
                                0x1.589b4ep-13f, 0x1.aad054p-18f, 0x1.91c83ep-26f};
    const float denominator[6] = {
        1.0f, 0x1.00534cp-2f, 0x1.d0f4bcp-6f, 0x1.e751fap-10f, 0x1.2faafap-14f, 0x1.4693a2p-20f};
    const Lanes c =
        Lanes::min(Lanes::max(x, Lanes::set(-0x1.59999ap+2f)), Lanes::set(0x1.59999ap+2f));
    const Lanes square = Lanes::mul(c, c);
    return Lanes::mul(Lanes::mul(c, polynomial(square, numerator)),
                      reciprocal(polynomial(square, denominator)));
}

// x Phi(x). Absolute error at most 3e-7 |x|.
FLIC_INLINE Lanes quick_gelu(Lanes x) {
    return Lanes::fma(x, quick_normal(x), Lanes::mul(x, Lanes::set(0.5f)));
}

#endif

// d/dx x Phi(x) = Phi(x) + x phi(x)
FLIC_INLINE Lanes gelu_slope(Lanes x) {
    // Not so small that the density is subnormal: that takes a hundred times as long.
    const Lanes half =
        Lanes::max(Lanes::mul(Lanes::mul(x, x), Lanes::set(-0.5f)), Lanes::set(-80.0f));
    const Lanes density = Lanes::mul(exp_nonpositive(half), Lanes::set(0.3989422804f));
    return Lanes::fma(x, density, Lanes::add(quick_normal(x), Lanes::set(0.5f)));
}

}  // namespace
