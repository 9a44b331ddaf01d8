// The float kernels' products and row kernels for AVX2.
#if defined(__x86_64__)
#define FLIC_LOOSE_FMA
#include "product_tile.h"
#include "rows.h"

const flic::cpu::ProductKernels flic::cpu::kAvx2Products = make_product_kernels();
const flic::cpu::RowKernels flic::cpu::kAvx2Rows = make_row_kernels();
#endif
