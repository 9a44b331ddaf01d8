// The C interface of tables' integers.
#include <algorithm>
#include <memory>
#include <vector>

#include "base/errors.h"
#include "base/float_environment.h"
#include "include/flic_kernels.h"
#include "rans/gaussian_tables.h"
#include "rans/quantise.h"

using flic::require;

// The frequencies of `count` rows of sizes[t] probabilities, one after another, each row's followed
// by its escape's.
FLIC_API int flic_rans_quantise(int64_t count, const int64_t* sizes, const double* probabilities,
                                int32_t* frequencies) {
    const flic::FloatEnvironment environment;
    return flic::LastError().guard([&] {
        require(count >= 0 && (count == 0 || (sizes && probabilities && frequencies)),
                "bad argument");
        std::vector<int32_t> row;
        for (int64_t t = 0; t < count; ++t) {
            row.clear();
            flic::rans::append_frequencies(row, probabilities, sizes[t]);
            probabilities += sizes[t];
            frequencies = std::copy(row.begin(), row.end(), frequencies);
        }
    });
}

FLIC_API int flic_rans_gaussian_tables(FlicTableRows** out) {
    const flic::FloatEnvironment environment;
    return flic::LastError().guard([&] {
        require(out, "bad argument");
        *out =
            std::make_unique<FlicTableRows>(FlicTableRows{flic::rans::gaussian_tables()}).release();
    });
}

// Where first, minimum, frequencies, row_first, row_size and cells lie, which belong to `rows`, and
// how many bytes each has: none the last three where the tables are no Gaussian ones.
FLIC_API int flic_rans_rows_arrays(const FlicTableRows* rows, const void** arrays, int64_t* bytes) {
    if (!rows || !arrays || !bytes) return FLIC_BAD_ARGUMENT;
    const auto put = [&](const auto& array) {
        *arrays++ = array.data();
        *bytes++ = static_cast<int64_t>(array.size() * sizeof(array[0]));
    };
    put(rows->rows.first);
    put(rows->rows.minimum);
    put(rows->rows.frequencies);
    put(rows->row_first);
    put(rows->row_size);
    put(rows->cells);
    return FLIC_OK;
}

FLIC_API void flic_rans_rows_free(FlicTableRows* rows) { delete rows; }
