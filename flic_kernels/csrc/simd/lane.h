// One float32 lane with the operations of Lanes (lanes.h), for CUDA threads and for the host.
#pragma once
#include <stdint.h>
#include <string.h>

#if defined(__CUDACC__)
#define FLIC_FUNCTION __host__ __device__ __forceinline__
#else
#define FLIC_FUNCTION inline __attribute__((always_inline))
#endif

#include "simd/soft_fma.h"

namespace {

struct Lane {
    float v;

    static FLIC_FUNCTION Lane set(float x) { return {x}; }
    static FLIC_FUNCTION Lane fma(Lane a, Lane b, Lane c) {
#if defined(__CUDA_ARCH__)
        return {__fmaf_rn(a.v, b.v, c.v)};
#elif defined(__FMA__) || defined(__aarch64__)
        return {__builtin_fmaf(a.v, b.v, c.v)};
#else
        return {soft_fma(a.v, b.v, c.v)};
#endif
    }
#if defined(__CUDA_ARCH__)
    static FLIC_FUNCTION Lane add(Lane a, Lane b) { return {__fadd_rn(a.v, b.v)}; }
    static FLIC_FUNCTION Lane sub(Lane a, Lane b) { return {__fsub_rn(a.v, b.v)}; }
    static FLIC_FUNCTION Lane mul(Lane a, Lane b) { return {__fmul_rn(a.v, b.v)}; }
    static FLIC_FUNCTION Lane div(Lane a, Lane b) { return {__fdiv_rn(a.v, b.v)}; }
    static FLIC_FUNCTION Lane sqrt(Lane a) { return {__fsqrt_rn(a.v)}; }
#else
    static FLIC_FUNCTION Lane add(Lane a, Lane b) { return {a.v + b.v}; }
    static FLIC_FUNCTION Lane sub(Lane a, Lane b) { return {a.v - b.v}; }
    static FLIC_FUNCTION Lane mul(Lane a, Lane b) { return {a.v * b.v}; }
    static FLIC_FUNCTION Lane div(Lane a, Lane b) { return {a.v / b.v}; }
    static FLIC_FUNCTION Lane sqrt(Lane a) { return {__builtin_sqrtf(a.v)}; }
#endif
    static FLIC_FUNCTION Lane max(Lane a, Lane b) { return a.v > b.v ? a : b; }
    static FLIC_FUNCTION Lane min(Lane a, Lane b) { return a.v < b.v ? a : b; }
    static FLIC_FUNCTION Lane power_of_two(Lane a) {
        uint32_t bits;
        memcpy(&bits, &a.v, 4);
        bits = (bits << 23) + 0x3f800000u;
        Lane r;
        memcpy(&r.v, &bits, 4);
        return r;
    }
};

}  // namespace
