// The exact engine's kernels in plain C++: the readable reference, and every processor that is not
// x86-64.
#define FLIC_LANES_SCALAR
#include "kernel_table.h"

const flic::exact::Kernels flic::exact::kScalarKernels = make_kernels();
