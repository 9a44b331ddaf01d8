#include "gaussian.h"

#include "../float_environment.h"
#include "../isa.h"
#include "../status.h"

namespace flic {
namespace rans {

int gaussian_indexes_scalar(const GaussianGrid& grid, const GaussianSpan& span, int64_t begin) {
    bool finite = true;
    for (int64_t i = begin; i < span.count; ++i) {
        finite &= is_finite(span.means[i]) && is_finite(span.scales[i]);
        span.indexes[i] = gaussian_index(grid, span.means[i], span.scales[i], &span.centers[i]);
    }
    return finite ? FLIC_OK : FLIC_NOT_FINITE;
}

}  // namespace rans
}  // namespace flic

using namespace flic::rans;

// indexes[i] and centers[i] for means[i] and scales[i]. Refuses NaN and infinity. cells has one
// element more than the grid.
FLIC_API int flic_rans_gaussian_indexes(const float* means, const float* scales, int64_t count,
                                        const int32_t* row_first, const int32_t* row_size,
                                        const uint16_t* cells, int32_t* indexes,
                                        int32_t* centers) {
    if (count < 0 || !row_first || !row_size || !cells) return FLIC_BAD_ARGUMENT;
    if (count > 0 && (!means || !scales || !indexes || !centers)) return FLIC_BAD_ARGUMENT;
    const GaussianGrid grid{row_first, row_size, cells};
    const flic::FloatEnvironment environment;
    const GaussianSpan span{means, scales, count, indexes, centers};
#if defined(__x86_64__)
    switch (flic::isa()) {
        case flic::Isa::avx512: return gaussian_indexes_avx512(grid, span);
        case flic::Isa::avx2: return gaussian_indexes_avx2(grid, span);
        case flic::Isa::scalar: break;
    }
#endif
    return gaussian_indexes_scalar(grid, span, 0);
}
