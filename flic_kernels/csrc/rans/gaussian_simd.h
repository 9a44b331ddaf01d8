// Table indexes by vectors, one source for every instruction set: gaussian_index() of gaussian.h,
// step by step. A file that includes this has defined V (vector_avx2.h, vector_avx512.h).
#pragma once

#include "../status.h"
#include "gaussian.h"

namespace flic {
namespace rans {
namespace {

int gaussian_indexes(const GaussianGrid& grid, const GaussianSpan& span) {
    const V::U exponent = V::set(0x7f800000u);
    V::U not_finite = V::set(0);
    int64_t i = 0;
    for (; i + V::width <= span.count; i += V::width) {
        V::F scale = V::load_floats(span.scales + i);
        V::F mean = V::load_floats(span.means + i);
        for (const V::F value : {scale, mean}) {
            const V::U bits = V::bit_and(V::as_bits(value), exponent);
            not_finite = V::max(not_finite, bits);
        }
        scale = V::smaller(V::larger(scale, V::floats(kScaleFloor)), V::floats(kScaleCeiling));
        const V::U level =
            V::template shr<20>(V::sub(V::as_bits(scale), V::set(kFirstThreshold)));
        mean = V::smaller(V::larger(mean, V::floats(-kMeanLimit)), V::floats(kMeanLimit));
        const V::F shift = V::floats(kRoundingShift);
        const V::F rounded = V::minus(V::plus(mean, shift), shift);
        V::store(span.centers + i, V::truncate(rounded));
        const V::U size = V::gather(reinterpret_cast<const uint32_t*>(grid.row_size), level);
        const V::U first = V::gather(reinterpret_cast<const uint32_t*>(grid.row_first), level);
        const V::F fraction = V::plus(V::minus(mean, rounded), V::floats(0.5f));
        const V::U cell = V::truncate(V::times(fraction, V::to_float(size)));
        const V::U last = V::sub(size, V::set(1));
        V::store(span.indexes + i,
                 V::gather_words(grid.cells, V::add(first, V::min(cell, last))));
    }
    if (V::bits(V::not_less(not_finite, exponent))) return FLIC_NOT_FINITE;
    return gaussian_indexes_scalar(grid, span, i);
}

}  // namespace
}  // namespace rans
}  // namespace flic
