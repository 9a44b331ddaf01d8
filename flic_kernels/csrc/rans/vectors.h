// V, a vector of V::width lanes of 32 bits, masks and operations, for the instruction set of the
// including file. In plain C++ there is none: FLIC_VECTORS is not defined.
#pragma once

#if defined(FLIC_LANES_SCALAR)
#elif defined(__AVX512F__)
#define FLIC_VECTORS
#include "rans/vector_avx512.h"
#elif defined(__AVX2__)
#define FLIC_VECTORS
#include "rans/vector_avx2.h"
#endif
