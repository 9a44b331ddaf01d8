// Table indexes of a span, compiled for each instruction set; by vectors, gaussian_index() of
// gaussian.h step by step.
#include "include/flic_kernels.h"
#include "rans/gaussian.h"
#include "rans/vectors.h"

namespace flic {
namespace rans {
namespace {

#if defined(FLIC_VECTORS)

// From position i, 0, as far as whole vectors go; returns whether all is finite.
bool index_vectors(const GaussianGrid& grid, const GaussianSpan& span, int64_t& i) {
    const V::U exponent = V::set(0x7f800000u);
    V::U not_finite = V::set(0);
    for (; i + V::width <= span.count; i += V::width) {
        V::F scale = V::load_floats(span.scales + i);
        V::F mean = V::load_floats(span.means + i);
        for (const V::F value : {scale, mean}) {
            const V::U bits = V::bit_and(V::as_bits(value), exponent);
            not_finite = V::max(not_finite, bits);
        }
        scale = V::smaller(V::larger(scale, V::floats(kScaleFloor)), V::floats(kScaleCeiling));
        const V::U level = V::template shr<20>(V::sub(V::as_bits(scale), V::set(kFirstThreshold)));
        mean = V::smaller(V::larger(mean, V::floats(-kMeanLimit)), V::floats(kMeanLimit));
        const V::F shift = V::floats(kRoundingShift);
        const V::F rounded = V::minus(V::plus(mean, shift), shift);
        V::store(span.centers + i, V::truncate(rounded));
        const V::U size = V::gather(reinterpret_cast<const uint32_t*>(grid.row_size), level);
        const V::U first = V::gather(reinterpret_cast<const uint32_t*>(grid.row_first), level);
        const V::F fraction = V::plus(V::minus(mean, rounded), V::floats(0.5f));
        const V::U cell = V::truncate(V::times(fraction, V::to_float(size)));
        const V::U last = V::sub(size, V::set(1));
        V::store(span.indexes + i, V::gather_words(grid.cells, V::add(first, V::min(cell, last))));
    }
    return !V::bits(V::not_less(not_finite, exponent));
}

#else

bool index_vectors(const GaussianGrid&, const GaussianSpan&, int64_t&) { return true; }

#endif

}  // namespace

namespace FLIC_ISA {
int gaussian_indexes(const GaussianGrid& grid, const GaussianSpan& span) {
    int64_t i = 0;
    bool finite = index_vectors(grid, span, i);
    for (; i < span.count; ++i) {
        finite &= is_finite(span.means[i]) && is_finite(span.scales[i]);
        span.indexes[i] = gaussian_index(grid, span.means[i], span.scales[i], &span.centers[i]);
    }
    return finite ? FLIC_OK : FLIC_NOT_FINITE;
}
}  // namespace FLIC_ISA
}  // namespace rans
}  // namespace flic
