// What the float kernels compute with sixteen lanes beyond lanes.h: sums, quick reciprocals and
// roots, transposes. For the instruction set of the including file.
#pragma once
#include "simd/quick_lanes.h"

namespace {

#if defined(FLIC_LANES_AVX512)

FLIC_INLINE float sum(Lanes a) { return _mm512_reduce_add_ps(a.v); }

// 1 / a and 1 / sqrt(a), within 2^-22 relative, for normal a with a normal result.
FLIC_INLINE Lanes reciprocal(Lanes a) {
    const __m512 r = _mm512_rcp14_ps(a.v);
    return {_mm512_fmadd_ps(r, _mm512_fnmadd_ps(a.v, r, _mm512_set1_ps(1.0f)), r)};
}
FLIC_INLINE Lanes reciprocal_root(Lanes a) {
    const __m512 r = _mm512_rsqrt14_ps(a.v);
    const __m512 half = _mm512_mul_ps(r, _mm512_set1_ps(0.5f));
    const __m512 e = _mm512_fnmadd_ps(_mm512_mul_ps(a.v, r), r, _mm512_set1_ps(1.0f));
    return {_mm512_fmadd_ps(half, e, r)};
}

// rows[i] lane j <-> rows[j] lane i
FLIC_INLINE void transpose(Lanes (&rows)[kLanes]) {
    __m512 a[16], b[16];
    FLIC_UNROLL for (int i = 0; i < 16; i += 2) {
        a[i] = _mm512_unpacklo_ps(rows[i].v, rows[i + 1].v);
        a[i + 1] = _mm512_unpackhi_ps(rows[i].v, rows[i + 1].v);
    }
    FLIC_UNROLL for (int i = 0; i < 16; i += 4) {
        b[i] = _mm512_shuffle_ps(a[i], a[i + 2], 0x44);
        b[i + 1] = _mm512_shuffle_ps(a[i], a[i + 2], 0xee);
        b[i + 2] = _mm512_shuffle_ps(a[i + 1], a[i + 3], 0x44);
        b[i + 3] = _mm512_shuffle_ps(a[i + 1], a[i + 3], 0xee);
    }
    FLIC_UNROLL for (int j = 0; j < 4; ++j) {  // b[4 q + j]: rows 4q.., columns j, j + 4, ...
        a[j] = _mm512_shuffle_f32x4(b[j], b[4 + j], 0x88);
        a[4 + j] = _mm512_shuffle_f32x4(b[j], b[4 + j], 0xdd);
        a[8 + j] = _mm512_shuffle_f32x4(b[8 + j], b[12 + j], 0x88);
        a[12 + j] = _mm512_shuffle_f32x4(b[8 + j], b[12 + j], 0xdd);
    }
    FLIC_UNROLL for (int j = 0; j < 4; ++j) {
        rows[j].v = _mm512_shuffle_f32x4(a[j], a[8 + j], 0x88);
        rows[8 + j].v = _mm512_shuffle_f32x4(a[j], a[8 + j], 0xdd);
        rows[4 + j].v = _mm512_shuffle_f32x4(a[4 + j], a[12 + j], 0x88);
        rows[12 + j].v = _mm512_shuffle_f32x4(a[4 + j], a[12 + j], 0xdd);
    }
}

#elif defined(FLIC_LANES_AVX2)

FLIC_INLINE float sum(Lanes a) {
    const __m256 s = _mm256_add_ps(a.lo, a.hi);
    __m128 t = _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
    t = _mm_add_ps(t, _mm_movehl_ps(t, t));
    return _mm_cvtss_f32(_mm_add_ss(t, _mm_shuffle_ps(t, t, 1)));
}

FLIC_INLINE __m256 reciprocal_half(__m256 a) {
    const __m256 r = _mm256_rcp_ps(a);
    return _mm256_fmadd_ps(r, _mm256_fnmadd_ps(a, r, _mm256_set1_ps(1.0f)), r);
}
FLIC_INLINE Lanes reciprocal(Lanes a) { return {reciprocal_half(a.lo), reciprocal_half(a.hi)}; }
FLIC_INLINE __m256 reciprocal_root_half(__m256 a) {
    const __m256 r = _mm256_rsqrt_ps(a);
    const __m256 half = _mm256_mul_ps(r, _mm256_set1_ps(0.5f));
    const __m256 e = _mm256_fnmadd_ps(_mm256_mul_ps(a, r), r, _mm256_set1_ps(1.0f));
    return _mm256_fmadd_ps(half, e, r);
}
FLIC_INLINE Lanes reciprocal_root(Lanes a) {
    return {reciprocal_root_half(a.lo), reciprocal_root_half(a.hi)};
}

FLIC_INLINE void transpose8(__m256 (&r)[8]) {
    __m256 a[8], b[8];
    FLIC_UNROLL for (int i = 0; i < 8; i += 2) {
        a[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        a[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    FLIC_UNROLL for (int i = 0; i < 8; i += 4) {
        b[i] = _mm256_shuffle_ps(a[i], a[i + 2], 0x44);
        b[i + 1] = _mm256_shuffle_ps(a[i], a[i + 2], 0xee);
        b[i + 2] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0x44);
        b[i + 3] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0xee);
    }
    FLIC_UNROLL for (int j = 0; j < 4; ++j) {
        r[j] = _mm256_permute2f128_ps(b[j], b[4 + j], 0x20);
        r[4 + j] = _mm256_permute2f128_ps(b[j], b[4 + j], 0x31);
    }
}

FLIC_INLINE void transpose(Lanes (&rows)[kLanes]) {
    __m256 q[4][8];
    FLIC_UNROLL for (int i = 0; i < 8; ++i) {
        q[0][i] = rows[i].lo, q[1][i] = rows[i].hi;
        q[2][i] = rows[8 + i].lo, q[3][i] = rows[8 + i].hi;
    }
    for (auto& block : q) transpose8(block);
    FLIC_UNROLL for (int i = 0; i < 8; ++i) {
        rows[i] = {q[0][i], q[2][i]};
        rows[8 + i] = {q[1][i], q[3][i]};
    }
}

#else

FLIC_INLINE float sum(const Lanes& a) {
    float s[kLanes];
    a.store(s);
    for (int half = kLanes / 2; half; half /= 2) {
        for (int i = 0; i < half; ++i) s[i] += s[i + half];
    }
    return s[0];
}
FLIC_INLINE Lanes reciprocal(const Lanes& a) { return Lanes::div(Lanes::set(1.0f), a); }
FLIC_INLINE Lanes reciprocal_root(const Lanes& a) {
    return Lanes::div(Lanes::set(1.0f), Lanes::sqrt(a));
}
FLIC_INLINE void transpose(Lanes (&rows)[kLanes]) {
    for (int i = 0; i < kLanes; ++i) {
        for (int j = 0; j < i; ++j) {
            const float t = rows[i].v[j];
            rows[i].v[j] = rows[j].v[i];
            rows[j].v[i] = t;
        }
    }
}

#endif

}  // namespace
