// Products and row kernels for AVX2.
#if defined(__x86_64__)
#define FLIC_LOOSE_FMA
#include "gradient_rows_simd.h"
#include "product_tile.h"
#include "row_kernels_simd.h"

namespace flic::cpu {

const ProductKernels<float> kAvx2Products = make_product_kernels<float>();
const ProductKernels<Bfloat16> kAvx2Bfloat16Products = make_product_kernels<Bfloat16>();
const RowKernels kAvx2Rows = make_row_kernels();
const GradientRows kAvx2Gradients = make_gradient_rows();

}  // namespace flic::cpu
#endif
