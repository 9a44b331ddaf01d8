#if defined(__AVX2__)

#include "vector_avx2.h"
// V comes first.
#include "gaussian_simd.h"

namespace flic {
namespace rans {
int gaussian_indexes_avx2(const GaussianGrid& grid, const GaussianSpan& span) {
    return gaussian_indexes(grid, span);
}
}  // namespace rans
}  // namespace flic

#endif
