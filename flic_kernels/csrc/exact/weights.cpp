#include "exact/weights.h"

#include <math.h>
#include <string.h>

#include "include/flic_kernels.h"

namespace flic::exact {

Config make_config(const int32_t* fields, int count) {
    if (!fields || count != Config::kFields)
        throw Error(FLIC_BAD_ARGUMENT, "wrong number of configuration fields");
    for (int i = 0; i < count; ++i) {
        if (fields[i] < 1 || fields[i] > 1 << 14)
            throw Error(FLIC_BAD_ARGUMENT, "a configuration field is out of range");
    }
    const Config c = {fields[0], fields[1], fields[2], fields[3], fields[4], fields[5], fields[6]};
    if (c.heads % 4 || c.width % c.heads) {
        throw Error(FLIC_BAD_ARGUMENT,
                    "heads must be a multiple of 4 that divides the hyper transforms' width");
    }
    if (c.latent % c.slices || c.slice_channels() * c.ratio % kHeads) {
        throw Error(FLIC_BAD_ARGUMENT,
                    "a slice's channels times the ratio must be a multiple of 16");
    }
    return c;
}

void WeightTable::add(const std::string& name, const float* data, int64_t count) {
    if (!data || count < 0) throw Error(FLIC_BAD_ARGUMENT, "no data for weight " + name);
    arrays_[name] = {data, static_cast<size_t>(count), false};
}

const float* WeightTable::find(const std::string& name, size_t count) {
    const auto found = arrays_.find(name);
    if (found == arrays_.end()) throw Error(FLIC_BAD_ARGUMENT, "weight " + name + " is missing");
    Array& array = found->second;
    if (array.count != count) {
        throw Error(FLIC_BAD_ARGUMENT, "weight " + name + " has " + std::to_string(array.count) +
                                           " values, not " + std::to_string(count));
    }
    if (array.used || only_finds()) return array.data;
    for (size_t i = 0; i < count; ++i) {
        if (!isfinite(array.data[i]))
            throw Error(FLIC_NOT_FINITE, "weight " + name + " holds NaN or infinity");
    }
    mix(array.data, count);
    array.used = true;
    return array.data;
}

void WeightTable::mix(const float* data, size_t count) {
    if (only_finds()) return;
    uint64_t hash = hash_;
    for (size_t i = 0; i < count; ++i) {
        uint32_t word;
        memcpy(&word, data + i, 4);
        hash = (hash ^ word) * 1099511628211ull;
    }
    hash_ = hash;
}

Packed::Packed(int taps, int channels, int columns, int panel_vectors)
    : product_{taps, channels, padded(columns), nullptr, nullptr},
      panel_vectors_(panel_vectors),
      outputs_(columns),
      weights_(static_cast<size_t>(taps) * channels * padded(columns)),
      bias_(padded(columns)) {
    product_.weights = weights_.get();
    product_.bias = bias_.get();
}

void Packed::fill(int column, int outputs, const float* weight, const float* bias, int first,
                  int step) {
    const int taps = product_.taps, channels = product_.channels;
    for (int n = 0; n < outputs; ++n) {
        const size_t row = first + static_cast<size_t>(n) * step;
        const float* const from = weight + row * channels * taps;
        float* to = weights_.get() + packed_index(product_, panel_vectors_, 0, column + n);
        const size_t next = packed_index(product_, panel_vectors_, 1, column + n) -
                            packed_index(product_, panel_vectors_, 0, column + n);
        for (int t = 0; t < taps; ++t) {
            for (int c = 0; c < channels; ++c, to += next) *to = from[c * taps + t];
        }
        if (bias) bias_[column + n] = bias[row];
    }
}

}  // namespace flic::exact
