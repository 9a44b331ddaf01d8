#include "gaussian.h"

#include "../status.h"

using flic::rans::GaussianGrid;

// indexes[i] and centers[i] for mean[i] and scale[i]. Refuses NaN and infinity.
FLIC_API int flic_rans_gaussian_indexes(const float* means, const float* scales, int64_t count,
                                        const int32_t* row_first, const int32_t* row_size,
                                        const uint16_t* cells, int32_t* indexes,
                                        int32_t* centers) {
    if (count < 0 || !row_first || !row_size || !cells) return FLIC_BAD_ARGUMENT;
    if (count > 0 && (!means || !scales || !indexes || !centers)) return FLIC_BAD_ARGUMENT;
    const GaussianGrid grid{row_first, row_size, cells};
    bool finite = true;
    for (int64_t i = 0; i < count; ++i) {
        finite &= flic::rans::is_finite(means[i]) && flic::rans::is_finite(scales[i]);
    }
    if (!finite) return FLIC_NOT_FINITE;
    for (int64_t i = 0; i < count; ++i) {
        indexes[i] = flic::rans::gaussian_index(grid, means[i], scales[i], &centers[i]);
    }
    return FLIC_OK;
}
