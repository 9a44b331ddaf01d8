// GDN and its inverse on channels-last rows, with a residual; and their gradients.
#include <algorithm>
#include <vector>

#include "base/large_pages.h"
#include "cpu/guarded.h"
#include "cpu/kernels.h"
#include "cpu/product/product.h"
#include "cpu/product/rows_as_floats.h"
#include "cpu/product/weight_gradient.h"

namespace flic::cpu {
namespace {

constexpr int kRows = 192;  // of a step: whole register tiles, few enough to stay in cache

template <class T>
void normalise(const T* x, int64_t rows, int channels, const float* gamma, const float* beta,
               bool inverse, const T* residual, T* out, Pool& pool) {
    Product norm(channels, channels);
    norm.pack(gamma, beta, pool);
    ask_for_large_pages(out, rows * channels * sizeof(T));
    std::vector<Floats> squares;
    for (int i = 0; i < pool.threads(); ++i) {
        squares.emplace_back(static_cast<size_t>(kRows) * channels, Floats::Fill::none);
    }
    pool.run(static_cast<int>((rows + kRows - 1) / kRows), [&](int item, int worker) {
        const int64_t first = static_cast<int64_t>(item) * kRows;
        const int count = static_cast<int>(std::min<int64_t>(kRows, rows - first));
        const ptrdiff_t at = first * channels;
        float* const s = squares[worker].get();
        square(x + at, s, static_cast<ptrdiff_t>(count) * channels);
        Epilogue<T> epilogue;
        epilogue.root = inverse ? Root::multiply : Root::divide;
        epilogue.factor = {x + at, channels};
        if (residual) epilogue.residual = {residual + at, channels};
        norm.run(count, {s, channels}, Rows<T>(out + at, channels), epilogue);
    });
}

// A thread's memory in a gradient's step.
struct Worker {
    Floats x, grad, squares, norm, direct, dsquares;

    explicit Worker(size_t size)
        : x(size, Floats::Fill::none),
          grad(size, Floats::Fill::none),
          squares(size, Floats::Fill::none),
          norm(size, Floats::Fill::none),
          direct(size, Floats::Fill::none),
          dsquares(size, Floats::Fill::none) {}
};

template <class T>
void gradient(const T* grad, const T* x, int64_t rows, int channels, const float* gamma,
              const float* beta, bool inverse, T* dx, float* dgamma, float* dbeta, Pool& pool) {
    Product norm(channels, channels), back(channels, channels);
    norm.pack(gamma, beta, pool);
    back.pack_transposed(gamma, channels, nullptr, pool);
    const GradientParts parts(rows);
    WeightGradient weights(channels, channels, dgamma ? parts.parts : 0);
    std::vector<Worker> workers;
    for (int i = 0; i < pool.threads(); ++i) {
        workers.emplace_back(static_cast<size_t>(kGradientTokens) * channels);
    }
    const GradientRows& gradient = kernels().gradient_rows;
    pool.run(parts.parts, [&](int part, int worker) {
        Worker& w = workers[worker];
        parts.for_steps(part, [&](int64_t first, int count) {
            const ptrdiff_t at = first * channels, size = static_cast<ptrdiff_t>(count) * channels;
            const float* const wide = as_floats(x + at, size, w.x.get());
            const float* const given = as_floats(grad + at, size, w.grad.get());
            square(wide, w.squares.get(), size);
            norm.run(count, {w.squares.get(), channels}, Rows<float>(w.norm.get(), channels));
            gradient.gdn(wide, given, w.norm.get(), inverse, w.direct.get(), w.norm.get(), size);
            back.run(count, {w.norm.get(), channels}, Rows<float>(w.dsquares.get(), channels));
            float* const to = room_for(dx + at, w.direct.get());
            gradient.add_squares(w.direct.get(), wide, w.dsquares.get(), to, size);
            store_floats(dx + at, to, size);
            weights.add(part, count, w.norm.get(), channels, {w.squares.get(), channels});
        });
    });
    weights.total(dgamma, dbeta, pool);
}

}  // namespace
}  // namespace flic::cpu

// x, residual (or null) and out [rows][channels], of one element type; gamma [channels][channels],
// beta [channels].
FLIC_API int flic_gdn(const void* x, int element, int64_t rows, int channels, const float* gamma,
                      const float* beta, int inverse, const void* residual, void* out,
                      int threads) {
    return flic::cpu::guarded(element, [&](auto type) {
        using T = decltype(type);
        flic::cpu::normalise(static_cast<const T*>(x), rows, channels, gamma, beta, inverse != 0,
                             static_cast<const T*>(residual), static_cast<T*>(out),
                             flic::team(threads));
    });
}

// From grad, the result's gradient: dx [rows][channels], of x's element type as grad is; dgamma
// [channels][channels], dbeta [channels], or both null.
FLIC_API int flic_gdn_backward(const void* grad, const void* x, int element, int64_t rows,
                               int channels, const float* gamma, const float* beta, int inverse,
                               void* dx, float* dgamma, float* dbeta, int threads) {
    return flic::cpu::guarded(element, [&](auto type) {
        using T = decltype(type);
        flic::cpu::gradient(static_cast<const T*>(grad), static_cast<const T*>(x), rows, channels,
                            gamma, beta, inverse != 0, static_cast<T*>(dx), dgamma, dbeta,
                            flic::team(threads));
    });
}
