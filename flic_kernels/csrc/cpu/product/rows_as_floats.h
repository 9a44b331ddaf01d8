// Rows of a tensor of either element type: in float32 where they are, or as a copy.
#pragma once
#include "cpu/kernels.h"
#include "cpu/product/gradient_rows.h"
#include "cpu/product/row_kernels.h"

namespace flic::cpu {

inline const float* as_floats(const float* rows, ptrdiff_t, float*) { return rows; }
inline const float* as_floats(const Bfloat16* rows, ptrdiff_t count, float* copy) {
    kernels().gradient_rows.widen(rows, copy, count);
    return copy;
}

// Where float32 results for `rows` may be written before store_floats.
inline float* room_for(float* rows, float*) { return rows; }
inline float* room_for(Bfloat16*, float* copy) { return copy; }

inline void store_floats(float*, const float*, ptrdiff_t) {}
inline void store_floats(Bfloat16* rows, const float* values, ptrdiff_t count) {
    kernels().rows.to_bfloat16(values, rows, count);
}

inline void leaky_gradient(const float* grad, const float* out, float* to, ptrdiff_t n) {
    kernels().gradient_rows.leaky(grad, out, to, n);
}
inline void leaky_gradient(const Bfloat16* grad, const Bfloat16* out, Bfloat16* to, ptrdiff_t n) {
    kernels().gradient_rows.leaky_bfloat16(grad, out, to, n);
}

}  // namespace flic::cpu
