#include "product.h"

#include <string.h>

#include "../isa.h"

namespace flic::cpu {
namespace {

constexpr int kVector = 16;

}  // namespace

const ProductKernels& product_kernels() {
#if defined(__x86_64__)
    if (isa() == Isa::avx512) return kAvx512Products;
    if (isa() == Isa::avx2) return kAvx2Products;
#endif
    return kScalarProducts;
}

const RowKernels& row_kernels() {
#if defined(__x86_64__)
    if (isa() == Isa::avx512) return kAvx512Rows;
    if (isa() == Isa::avx2) return kAvx2Rows;
#endif
    return kScalarRows;
}

Product::Product(int outputs, int channels, int taps, int groups)
    : kernels_(product_kernels()), channels_(channels), taps_(taps) {
    const ptrdiff_t depth = static_cast<ptrdiff_t>(taps) * channels;
    const int group_outputs = outputs / groups;
    const int group_vectors = (group_outputs + kVector - 1) / kVector;
    const size_t columns = static_cast<size_t>(groups) * group_vectors * kVector;
    weights_ = Floats(columns * depth, Floats::Fill::none);
    bias_ = Floats(columns);
    panels_ = {depth, groups, group_outputs, group_vectors, weights_.get(), bias_.get()};
}

// Where column 0 of a vector of columns lies in the packed weights, and its panel's width.
float* Product::panel_of(int group, int vector, int* column, int* width) const {
    const PanelSpan span = panel_span(panels_.group_vectors, vector, kernels_.panel_vectors);
    const size_t before = static_cast<size_t>(group) * panels_.group_vectors + span.begin;
    *column = (vector - span.begin) * kVector;
    *width = span.vectors * kVector;
    return weights_.get() + before * kVector * panels_.depth;
}

void Product::pack_bias(const float* bias) {
    if (!bias) return;
    for (int group = 0; group < panels_.groups; ++group) {
        float* const to = bias_.get() + static_cast<size_t>(group) * panels_.group_vectors * kVector;
        for (int n = 0; n < panels_.group_outputs; ++n) to[n] = bias[n * panels_.groups + group];
    }
}

void Product::pack(const float* weight, const float* bias, Pool& pool) {
    pack_bias(bias);
    pool.run(panels_.groups * panels_.group_vectors, [&](int item, int) {
        const int group = item / panels_.group_vectors, vector = item % panels_.group_vectors;
        const float* from[kVector];
        for (int i = 0; i < kVector; ++i) {
            const int n = vector * kVector + i;
            const size_t output = static_cast<size_t>(n) * panels_.groups + group;
            from[i] = n < panels_.group_outputs ? weight + output * panels_.depth : nullptr;
        }
        int column, width;
        float* const panel = panel_of(group, vector, &column, &width);
        kernels_.pack_columns(from, channels_, taps_, panel + column, width);
    });
}

void Product::pack_transposed(const float* weight, const float* bias, Pool& pool) {
    pack_bias(bias);
    pool.run(panels_.group_vectors, [&](int vector, int) {
        int column, width;
        float* to = panel_of(0, vector, &column, &width) + column;
        const int left = panels_.group_outputs - vector * kVector;
        const size_t count = left < kVector ? left : kVector;
        const float* from = weight + static_cast<size_t>(vector) * kVector;
        for (int k = 0; k < channels_; ++k, to += width, from += panels_.group_outputs) {
            memcpy(to, from, count * sizeof(float));
            memset(to + count, 0, (kVector - count) * sizeof(float));
        }
    });
}

}  // namespace flic::cpu
