#include "rans/gaussian.h"

#include "base/float_environment.h"
#include "base/isa.h"
#include "include/flic_kernels.h"

using namespace flic::rans;

// indexes[i] and centers[i] for means[i] and scales[i]. Refuses NaN and infinity. cells has one
// element more than the grid.
FLIC_API int flic_rans_gaussian_indexes(const float* means, const float* scales, int64_t count,
                                        const int32_t* row_first, const int32_t* row_size,
                                        const uint16_t* cells, int32_t* indexes, int32_t* centers) {
    if (count < 0 || !row_first || !row_size || !cells) return FLIC_BAD_ARGUMENT;
    if (count > 0 && (!means || !scales || !indexes || !centers)) return FLIC_BAD_ARGUMENT;
    const GaussianGrid grid{row_first, row_size, cells};
    const flic::FloatEnvironment environment;
    const GaussianSpan span{means, scales, count, indexes, centers};
#if defined(FLIC_X86_64)
    switch (flic::isa()) {
        case flic::Isa::avx512: return avx512::gaussian_indexes(grid, span);
        case flic::Isa::avx2: return avx2::gaussian_indexes(grid, span);
        case flic::Isa::scalar: break;
    }
#endif
    return scalar::gaussian_indexes(grid, span);
}
