// Products and row kernels in plain C++.
#define FLIC_LANES_SCALAR
#define FLIC_LOOSE_FMA
#include "gradient_rows_simd.h"
#include "product_tile.h"
#include "row_kernels_simd.h"

namespace flic::cpu {

const ProductKernels<float> kScalarProducts = make_product_kernels<float>();
const ProductKernels<Bfloat16> kScalarBfloat16Products = make_product_kernels<Bfloat16>();
const RowKernels kScalarRows = make_row_kernels();
const GradientRows kScalarGradients = make_gradient_rows();

}  // namespace flic::cpu
