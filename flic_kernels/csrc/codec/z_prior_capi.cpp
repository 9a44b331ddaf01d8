// The C interface of z's tables.
#include <memory>

#include "base/errors.h"
#include "base/float_environment.h"
#include "codec/z_prior.h"
#include "include/flic_kernels.h"
#include "rans/gaussian_tables.h"

// The parameters are those of flic::codec::z_tables.
FLIC_API int flic_z_tables(int channels, const float* quantiles, const float* const* matrices,
                           const float* const* biases, const float* const* factors,
                           FlicTableRows** out) {
    const flic::FloatEnvironment environment;
    return flic::LastError().guard([&] {
        flic::require(out, "bad argument");
        auto made = std::make_unique<FlicTableRows>();
        made->rows = flic::codec::z_tables(channels, quantiles, matrices, biases, factors);
        *out = made.release();
    });
}
