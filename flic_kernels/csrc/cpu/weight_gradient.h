// The gradient of a product's weight and bias, in a fixed number of partial sums that are added in a
// fixed order: the number of threads changes no bit.
#pragma once
#include <algorithm>
#include <vector>

#include "gradient_rows.h"
#include "product.h"

namespace flic::cpu {

constexpr int kGradientTokens = 256;  // of a step
constexpr int kGradientParts = 16;    // at most

class WeightGradient {
  public:
    // A thread's memory.
    struct Scratch {
        Floats transposed;
        Product rows;
        explicit Scratch(const WeightGradient& g)
            : transposed(static_cast<size_t>(g.outputs_) * kGradientTokens, Floats::Fill::none),
              rows(g.channels_, kGradientTokens) {}
    };

    WeightGradient(int outputs, int channels, int parts)
        : outputs_(outputs),
          channels_(channels),
          weights_(parts * weight_size(), Floats::Fill::none),
          biases_(static_cast<size_t>(parts) * outputs),
          begun_(parts, false) {}

    // Adds grad^T x to a part, and grad's column sums: at most kGradientTokens rows of `outputs` and
    // `channels` values, side by side.
    void add(int part, int tokens, const float* grad, const float* x, Scratch& scratch) {
        float* const weight = weights_.get() + part * weight_size();
        gradient_rows().transpose(grad, tokens, outputs_, scratch.transposed.get(),
                                  kGradientTokens);
        scratch.rows.pack_rows(x, channels_, tokens);
        if (tokens < kGradientTokens) {
            for (int n = 0; n < outputs_; ++n) {
                float* const row = scratch.transposed.get() + n * kGradientTokens;
                std::fill(row + tokens, row + kGradientTokens, 0.0f);
            }
        }
        Epilogue epilogue;
        if (begun_[part]) epilogue.residual = {weight, channels_};
        begun_[part] = true;
        scratch.rows.run(outputs_, {scratch.transposed.get(), kGradientTokens},
                         {weight, channels_}, epilogue);
        gradient_rows().add_columns(grad, tokens, outputs_, biases_.get() + part * outputs_);
    }

    // The sums over all parts: dweight [outputs][channels], dbias [outputs] or null.
    void total(float* dweight, float* dbias, Pool& pool) const {
        const int parts = static_cast<int>(begun_.size());
        if (!begun_[0]) {  // there are no rows
            std::fill(weights_.get(), weights_.get() + parts * weight_size(), 0.0f);
        }
        pool.run(outputs_, [&](int n, int) {
            const float* row = weights_.get() + static_cast<size_t>(n) * channels_;
            float* const out = dweight + static_cast<size_t>(n) * channels_;
            std::copy(row, row + channels_, out);
            for (int p = 1; p < parts; ++p) cpu::add(out, row += weight_size(), out, channels_);
        });
        if (!dbias) return;
        std::copy(biases_.get(), biases_.get() + outputs_, dbias);
        for (int p = 1; p < parts; ++p) {
            cpu::add(dbias, biases_.get() + static_cast<size_t>(p) * outputs_, dbias, outputs_);
        }
    }

  private:
    size_t weight_size() const { return static_cast<size_t>(outputs_) * channels_; }

    const int outputs_, channels_;
    Floats weights_, biases_;
    std::vector<char> begun_;  // of each part
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
