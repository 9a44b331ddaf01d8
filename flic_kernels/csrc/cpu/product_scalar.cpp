// The float kernels' products and row kernels in plain C++.
#define FLIC_LANES_SCALAR
#define FLIC_LOOSE_FMA
#include "product_tile.h"
#include "rows.h"

const flic::cpu::ProductKernels flic::cpu::kScalarProducts = make_product_kernels();
const flic::cpu::RowKernels flic::cpu::kScalarRows = make_row_kernels();
