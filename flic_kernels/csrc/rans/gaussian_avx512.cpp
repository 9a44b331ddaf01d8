#if defined(__AVX512F__)

#include "vector_avx512.h"
// V comes first.
#include "gaussian_simd.h"

namespace flic {
namespace rans {
int gaussian_indexes_avx512(const GaussianGrid& grid, const GaussianSpan& span) {
    return gaussian_indexes(grid, span);
}
}  // namespace rans
}  // namespace flic

#endif
