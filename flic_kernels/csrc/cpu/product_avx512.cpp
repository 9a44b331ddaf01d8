// The float kernels' products and row kernels for AVX-512.
#if defined(__x86_64__)
#define FLIC_LOOSE_FMA
#include "product_tile.h"
#include "rows.h"

const flic::cpu::ProductKernels flic::cpu::kAvx512Products = make_product_kernels();
const flic::cpu::RowKernels flic::cpu::kAvx512Rows = make_row_kernels();
#endif
