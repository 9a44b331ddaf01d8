// Products and row kernels for AVX-512.
#if defined(__x86_64__)
#define FLIC_LOOSE_FMA
#include "gradient_rows_simd.h"
#include "product_tile.h"
#include "row_kernels_simd.h"

namespace flic::cpu {

const ProductKernels<float> kAvx512Products = make_product_kernels<float>();
const ProductKernels<Bfloat16> kAvx512Bfloat16Products = make_product_kernels<Bfloat16>();
const RowKernels kAvx512Rows = make_row_kernels();
const GradientRows kAvx512Gradients = make_gradient_rows();

}  // namespace flic::cpu
#endif
