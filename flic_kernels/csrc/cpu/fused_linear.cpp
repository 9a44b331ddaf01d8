// A Linear with LayerNorm before it and bias, GELU and a residual after it; and its gradients.
// Grouped ones are products beside each other.
#include <algorithm>
#include <type_traits>
#include <vector>

#include "base/large_pages.h"
#include "cpu/guarded.h"
#include "cpu/kernels.h"
#include "cpu/product/product.h"
#include "cpu/product/rows_as_floats.h"
#include "cpu/product/weight_gradient.h"

namespace flic::cpu {
namespace {

constexpr int kRows = 192;         // of a step: whole register tiles, few enough to stay in cache
constexpr int kStepsOfThread = 4;  // at least, if there are so many rows

// Of the C interface; flic_kernels/cpu/fused_linear.py fills the same ones.
//
// Rows of x: `outer` times `inner` of them, groups * channels values each.
using Shape = FlicLinearShape;
using Parameters = FlicLinearParameters;
using Gradients = FlicLinearGradients;

// The groups' products, [groups * outputs][channels].
template <class T>
std::vector<BasicProduct<T>> pack_all(const Shape& s, const T* weight, const float* bias,
                                      Pool& pool) {
    std::vector<BasicProduct<T>> products;
    products.reserve(s.groups);
    for (int g = 0; g < s.groups; ++g) {
        const ptrdiff_t first = static_cast<ptrdiff_t>(g) * s.outputs;
        products.emplace_back(s.outputs, s.channels);
        products.back().pack(weight + first * s.channels, bias ? bias + first : nullptr, pool);
    }
    return products;
}

template <class T>
class Forward {
  public:
    Forward(const Shape& shape, const Parameters& parameters, const T* x, const T* weight,
            const T* residual, T* out, Pool& pool)
        : s_(shape),
          p_(parameters),
          x_(x),
          residual_(residual),
          out_(out),
          pool_(pool),
          products_(pack_all(shape, weight, parameters.bias, pool)) {
        ask_for_large_pages(out, shape.outer * shape.inner * row_out() * sizeof(T));
    }

    void run() {
        const int64_t share = s_.outer * s_.inner / (pool_.threads() * kStepsOfThread);
        const int64_t step = std::clamp<int64_t>((share + 47) / 48 * 48, 48, kRows);
        const int64_t steps = (s_.inner + step - 1) / step;
        std::vector<Floats> normed, narrow;
        for (int i = 0; i < pool_.threads() && p_.norm_weight; ++i) {
            normed.emplace_back(step * s_.channels, Floats::Fill::none);
            narrow.emplace_back(step * s_.channels, Floats::Fill::none);
        }
        pool_.run(static_cast<int>(s_.outer * steps), [&](int item, int worker) {
            const int64_t outer = item / steps, first = item % steps * step;
            const int rows = static_cast<int>(std::min(step, s_.inner - first));
            const T* x = x_ + outer * s_.outer_stride + first * s_.inner_stride;
            ptrdiff_t stride = s_.inner_stride;
            if (p_.norm_weight) {
                x = normalise(x, rows, normed[worker].get(), narrow[worker].get());
                stride = s_.channels;
            }
            multiply(x, stride, rows, outer * s_.inner + first);
        });
    }

  private:
    ptrdiff_t row_out() const { return static_cast<ptrdiff_t>(s_.groups) * s_.outputs; }

    const T* normalise(const T* x, int rows, float* normed, float* narrow) const {
        for (ptrdiff_t r = 0; r < rows; ++r) {
            float* const to = normed + r * s_.channels;
            const float* const wide = as_floats(x + r * s_.inner_stride, s_.channels, to);
            kernels().rows.layer_norm(wide, 0, 1, s_.channels, p_.norm_weight, p_.norm_bias, s_.eps,
                                      to, 0, false);
        }
        if constexpr (std::is_same_v<T, float>) {
            return normed;
        } else {
            T* const to = reinterpret_cast<T*>(narrow);
            kernels().rows.to_bfloat16(normed, to, static_cast<ptrdiff_t>(rows) * s_.channels);
            return to;
        }
    }

    void multiply(const T* x, ptrdiff_t stride, int rows, int64_t first) const {
        Epilogue<T> epilogue;
        if (s_.gelu) epilogue.activation = Activation::gelu;
        for (int g = 0; g < s_.groups; ++g) {
            const ptrdiff_t at = first * row_out() + static_cast<ptrdiff_t>(g) * s_.outputs;
            if (residual_) epilogue.residual = {residual_ + at, row_out()};
            products_[g].run(rows, {x + static_cast<ptrdiff_t>(g) * s_.channels, stride},
                             Rows<T>(out_ + at, row_out()), epilogue);
        }
    }

    const Shape s_;
    const Parameters p_;
    const T* const x_;
    const T* const residual_;
    T* const out_;
    Pool& pool_;
    const std::vector<BasicProduct<T>> products_;
};

// Where gradients go; each may be null.
// The steps of a part go through everything a group at a time; products are in float32.
template <class T>
class Backward {
  public:
    // x is dense here.
    Backward(const Shape& shape, const Parameters& parameters, const T* grad, const T* x,
             const float* weight, T* dx, const Gradients& gradients, Pool& pool)
        : s_(shape),
          p_(parameters),
          grad_(grad),
          x_(x),
          dx_(dx),
          gradients_(gradients),
          pool_(pool),
          parts_(shape.outer * shape.inner) {
        if (s_.gelu) forward_ = pack_all(shape, weight, parameters.bias, pool);
        for (int g = 0; g < s_.groups; ++g) {
            const ptrdiff_t first = static_cast<ptrdiff_t>(g) * s_.outputs;
            if (dx) {
                back_.emplace_back(s_.channels, s_.outputs);
                back_.back().pack_transposed(weight + first * s_.channels, s_.channels, nullptr,
                                             pool);
            }
            weights_.emplace_back(s_.outputs, s_.channels, gradients.weight ? parts_.parts : 0);
        }
        if (p_.norm_weight) {
            norms_ = Floats(2 * static_cast<size_t>(parts_.parts) * s_.channels);
        }
    }

    void run() {
        std::vector<Worker> workers;
        for (int i = 0; i < pool_.threads(); ++i) workers.emplace_back(*this);
        pool_.run(parts_.parts * s_.groups, [&](int item, int worker) {
            const int part = item / s_.groups, group = item % s_.groups;
            parts_.for_steps(part, [&](int64_t first, int rows) {
                step(workers[worker], part, first, rows, group);
            });
        });
        for (int g = 0; g < s_.groups && gradients_.weight; ++g) {
            const ptrdiff_t first = static_cast<ptrdiff_t>(g) * s_.outputs;
            weights_[g].total(gradients_.weight + first * s_.channels,
                              gradients_.bias ? gradients_.bias + first : nullptr, pool_);
        }
        if (gradients_.norm_weight) {
            for (int part = 0; part < parts_.parts; ++part) {
                add(gradients_.norm_weight, norm_sums(part), gradients_.norm_weight, s_.channels);
                add(gradients_.norm_bias, norm_sums(part) + s_.channels, gradients_.norm_bias,
                    s_.channels);
            }
        }
    }

  private:
    // A thread's rows: of x, normalised, of the gradient, before GELU, of dx.
    struct Worker {
        Floats x, normed, grad, hidden, dx;

        explicit Worker(const Backward& b)
            : x(b.inputs(), Floats::Fill::none),
              normed(b.p_.norm_weight ? b.inputs() : 0, Floats::Fill::none),
              grad(b.results(), Floats::Fill::none),
              hidden(b.s_.gelu ? b.results() : 0, Floats::Fill::none),
              dx(b.inputs(), Floats::Fill::none) {}
    };

    size_t inputs() const { return static_cast<size_t>(kGradientTokens) * s_.channels; }
    size_t results() const { return static_cast<size_t>(kGradientTokens) * s_.outputs; }
    float* norm_sums(int part) const {
        return norms_.get() + 2 * static_cast<size_t>(part) * s_.channels;
    }

    // Rows of one group in float32: where they are, or a dense copy.
    struct Matrix {
        const float* first;
        ptrdiff_t stride;
        operator Rows<const float>() const { return {first, stride}; }
    };
    static Matrix widened(const T* from, int rows, int columns, ptrdiff_t stride, float* to) {
        if constexpr (std::is_same_v<T, float>) {
            return {from, stride};
        } else {
            for (int r = 0; r < rows; ++r) as_floats(from + r * stride, columns, to + r * columns);
            return {to, columns};
        }
    }

    void step(Worker& w, int part, int64_t first, int rows, int group) {
        const ptrdiff_t in_stride = static_cast<ptrdiff_t>(s_.groups) * s_.channels;
        const ptrdiff_t out_stride = static_cast<ptrdiff_t>(s_.groups) * s_.outputs;
        const ptrdiff_t in_at = first * in_stride + static_cast<ptrdiff_t>(group) * s_.channels;
        const ptrdiff_t out_at = first * out_stride + static_cast<ptrdiff_t>(group) * s_.outputs;
        const Matrix x = widened(x_ + in_at, rows, s_.channels, in_stride, w.x.get());
        Matrix grad = widened(grad_ + out_at, rows, s_.outputs, out_stride, w.grad.get());
        Matrix normed = x;
        if (p_.norm_weight) {
            normed = {w.normed.get(), s_.channels};
            kernels().rows.layer_norm(x.first, x.stride, rows, s_.channels, p_.norm_weight,
                                      p_.norm_bias, s_.eps, w.normed.get(), s_.channels, false);
        }
        if (s_.gelu) {
            float* const hidden = w.hidden.get();
            forward_[group].run(rows, normed, Rows<float>(hidden, s_.outputs));
            for (ptrdiff_t r = 0; r < rows; ++r) {
                float* const row = hidden + r * s_.outputs;
                kernels().gradient_rows.gelu(row, grad.first + r * grad.stride, row, s_.outputs);
            }
            grad = {hidden, s_.outputs};
        }
        weights_[group].add(part, rows, grad.first, grad.stride, normed);
        if (!dx_) return;
        constexpr bool in_place = std::is_same_v<T, float>;
        float* const dx = room_for(dx_ + in_at, w.dx.get());
        const ptrdiff_t stride = in_place ? in_stride : s_.channels;
        back_[group].run(rows, grad, Rows<float>(dx, stride));
        if (p_.norm_weight) {  // then there is one group, and rows lie side by side
            kernels().gradient_rows.layer_norm(x.first, dx, rows, s_.channels, p_.norm_weight,
                                               s_.eps, dx, norm_sums(part),
                                               norm_sums(part) + s_.channels);
        }
        for (int r = 0; r < rows && !in_place; ++r) {
            store_floats(dx_ + in_at + r * in_stride, dx + r * stride, s_.channels);
        }
    }

    const Shape s_;
    const Parameters p_;
    const T* const grad_;
    const T* const x_;
    T* const dx_;
    const Gradients gradients_;
    Pool& pool_;
    const GradientParts parts_;
    std::vector<Product> forward_, back_;
    std::vector<WeightGradient> weights_;
    Floats norms_;
};

}  // namespace
}  // namespace flic::cpu

// x as shape says; weight [groups * outputs][channels]; residual (or null) and out
// [rows][groups * outputs], all of one element type.
FLIC_API int flic_fused_linear(const void* x, int element, const FlicLinearShape* shape,
                               const void* weight, const FlicLinearParameters* parameters,
                               const void* residual, void* out, int threads) {
    return flic::cpu::guarded(element, [&](auto type) {
        using T = decltype(type);
        flic::cpu::Forward<T>(*shape, *parameters, static_cast<const T*>(x),
                              static_cast<const T*>(weight), static_cast<const T*>(residual),
                              static_cast<T*>(out), flic::team(threads))
            .run();
    });
}

// From grad [rows][groups * outputs], the result's gradient, and x, which lies dense: dx, of their
// element type, or null; the parameters' gradients, null where they are not wanted. Those of a norm
// begin as zeros and need dx.
FLIC_API int flic_fused_linear_backward(const void* grad, const void* x, int element,
                                        const FlicLinearShape* shape, const float* weight,
                                        const FlicLinearParameters* parameters, void* dx,
                                        const FlicLinearGradients* gradients, int threads) {
    return flic::cpu::guarded(element, [&](auto type) {
        using T = decltype(type);
        flic::cpu::Backward<T>(*shape, *parameters, static_cast<const T*>(grad),
                               static_cast<const T*>(x), weight, static_cast<T*>(dx), *gradients,
                               flic::team(threads))
            .run();
    });
}
