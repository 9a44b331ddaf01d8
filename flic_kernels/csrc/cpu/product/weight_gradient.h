// The gradient of a product's weight and bias, in a fixed number of partial sums that are added in
// a fixed order: the number of threads changes no bit.
#pragma once
#include <algorithm>

#include "base/floats.h"
#include "base/pool.h"
#include "cpu/kernels.h"
#include "cpu/product/gradient_rows.h"
#include "cpu/product/row_kernels.h"

namespace flic::cpu {

constexpr int kGradientTokens = 256;  // of a step
constexpr int kGradientParts = 16;    // at most

class WeightGradient {
  public:
    // columns: of the weight. parts: 0 where no gradient is wanted; then nothing is summed.
    WeightGradient(int outputs, int columns, int parts)
        : outputs_(outputs),
          columns_(columns),
          parts_(parts),
          weights_(parts * weight_size()),
          biases_(static_cast<size_t>(parts) * outputs) {}

    // Adds grad^T x to a part, and grad's column sums: rows of `outputs` values, and rows of
    // x.parts parts that are the weight's columns together.
    void add(int part, int rows, const float* grad, ptrdiff_t grad_stride,
             const Rows<const float>& x) {
        if (!parts_) return;
        const GradientRows& gradient = kernels().gradient_rows;
        gradient.add_outer(rows, grad, grad_stride, outputs_, x, columns_ / x.parts,
                           weights_.get() + part * weight_size());
        gradient.add_columns(grad, grad_stride, rows, outputs_, biases_.get() + part * outputs_);
    }

    // The sums over all parts: dweight [outputs][columns], dbias [outputs] or null.
    void total(float* dweight, float* dbias, Pool& pool) const {
        if (!parts_) return;
        pool.run(outputs_, [&](int n, int) {
            const float* row = weights_.get() + static_cast<size_t>(n) * columns_;
            float* const out = dweight + static_cast<size_t>(n) * columns_;
            std::copy(row, row + columns_, out);
            for (int p = 1; p < parts_; ++p) cpu::add(out, row += weight_size(), out, columns_);
        });
        if (!dbias) return;
        std::copy(biases_.get(), biases_.get() + outputs_, dbias);
        for (int p = 1; p < parts_; ++p) {
            cpu::add(dbias, biases_.get() + static_cast<size_t>(p) * outputs_, dbias, outputs_);
        }
    }

  private:
    size_t weight_size() const { return static_cast<size_t>(outputs_) * columns_; }

    const int outputs_, columns_, parts_;
    Floats weights_, biases_;
};

// Steps of kGradientTokens rows, in parts of about equal length that do not depend on the number of
// threads.
struct GradientParts {
    int64_t rows, steps;
    int parts;

    explicit GradientParts(int64_t all_rows)
        : rows(all_rows),
          steps((all_rows + kGradientTokens - 1) / kGradientTokens),
          parts(static_cast<int>(std::clamp<int64_t>(steps, 1, kGradientParts))) {}

    // step(first row, number of rows) for each step of a part.
    template <class Step>
    void for_steps(int part, const Step& step) const {
        for (int64_t s = steps * part / parts; s < steps * (part + 1) / parts; ++s) {
            const int64_t first = s * kGradientTokens;
            step(first, static_cast<int>(std::min<int64_t>(kGradientTokens, rows - first)));
        }
    }
};

}  // namespace flic::cpu
