// The gradients of a 3x3 convolution, of the leaky ReLU and of the sub-pixel shuffle after it.
//
// With stride s, the pixels of x of each remainder modulo s are a convolution of the result's
// gradient with some of the taps. The weight's gradient sums outer products of the result's
// gradient with the patches that the convolution itself takes.
#include <algorithm>
#include <type_traits>
#include <vector>

#include "cpu/conv3x3/patches.h"
#include "cpu/guarded.h"
#include "cpu/product/product.h"
#include "cpu/product/rows_as_floats.h"
#include "cpu/product/weight_gradient.h"

namespace flic::cpu {
namespace {

// In one direction: the taps that pixels of remainder `phase` modulo the stride meet, first to
// last, and how far from pixel / stride the result lies that the first of them belongs to.
struct Taps {
    int count = 0, first_result = 0;
    int tap[3] = {};

    Taps(int phase, int stride) {
        for (int k = 2; k >= 0; --k) {
            if ((phase + 1 - k) % stride) continue;
            if (!count) first_result = (phase + 1 - k) / stride;
            tap[count++] = k;
        }
    }
};

template <class T>
class ConvolutionGradient {
  public:
    // grad and out (null: without a leaky ReLU) are shuffled.
    ConvolutionGradient(const T* grad, const T* out, const Image<const T>& x, const T* weight,
                        int outputs, int stride, int shuffle, Pool& pool)
        : x_(x),
          weight_(weight),
          outputs_(outputs),
          stride_(stride),
          sub_pixels_(shuffle * shuffle),
          pool_(pool),
          grad_{grad, x.batch, (x.height - 1) / stride + 1, (x.width - 1) / stride + 1, outputs} {
        if (out || shuffle > 1) unshuffle(grad, out, shuffle);
    }

    // dx, an image of x's sides.
    void input(T* dx) {
        const Image<T> to = {dx, x_.batch, x_.height, x_.width, x_.channels};
        if (stride_ > 3) memset(dx, 0, to.bytes());  // some pixels meet no tap
        for (int down = 0; down < std::min(stride_, x_.height); ++down) {
            for (int right = 0; right < std::min(stride_, x_.width); ++right) {
                const Taps rows(down, stride_), columns(right, stride_);
                if (rows.count && columns.count) input_phase(to, down, right, rows, columns);
            }
        }
    }

    // dweight [outputs][channels][9], dbias [outputs] or null.
    void parameters(float* dweight, float* dbias) {
        const GradientParts parts(grad_.pixels());
        WeightGradient sums(outputs_, 9 * x_.channels, parts.parts);
        std::vector<Worker> workers;
        for (int i = 0; i < pool_.threads(); ++i) workers.emplace_back(*this);
        pool_.run(parts.parts, [&](int part, int worker) {
            parts.for_steps(part, [&](int64_t first, int count) {
                add_step(workers[worker], first, count, part, sums);
            });
        });
        const Floats weights(static_cast<size_t>(outputs_) * 9 * x_.channels, Floats::Fill::none);
        const Floats biases(outputs_, Floats::Fill::none);
        sums.total(weights.get(), biases.get(), pool_);
        pool_.run(outputs_, [&](int n, int) {
            const ptrdiff_t size = 9 * static_cast<ptrdiff_t>(x_.channels);
            const float* const from = weights.get() + place(n) * size;
            float* const to = dweight + n * size;
            for (int c = 0; c < x_.channels; ++c) {
                for (int tap = 0; tap < 9; ++tap) to[9 * c + tap] = from[tap * x_.channels + c];
            }
            if (dbias) dbias[n] = biases[place(n)];
        });
    }

  private:
    // Output n of the weight among the results as they are here: sub-pixel by sub-pixel.
    int place(int n) const { return n % sub_pixels_ * (outputs_ / sub_pixels_) + n / sub_pixels_; }

    void unshuffle(const T* grad, const T* out, int shuffle) {
        const int channels = outputs_ / sub_pixels_;
        const size_t bytes = grad_.bytes();
        unshuffled_ = Floats((bytes + sizeof(float) - 1) / sizeof(float), Floats::Fill::none);
        T* const to = reinterpret_cast<T*>(unshuffled_.get());
        const Image<const T> from = {grad, x_.batch, grad_.height * shuffle, grad_.width * shuffle,
                                     channels};
        pool_.run(static_cast<int>(x_.batch * grad_.height), [&](int line, int) {
            T* row = to + static_cast<ptrdiff_t>(line) * grad_.width * outputs_;
            const int64_t picture = line / grad_.height;
            const int y = line % grad_.height * shuffle;
            for (int x = 0; x < grad_.width; ++x) {
                for (int s = 0; s < sub_pixels_; ++s, row += channels) {
                    const T* const g = from.at(picture, y + s / shuffle, x * shuffle + s % shuffle);
                    if (out) {
                        leaky_gradient(g, out + (g - grad), row, channels);
                    } else {
                        std::copy(g, g + channels, row);
                    }
                }
            }
        });
        grad_.data = to;
    }

    void input_phase(const Image<T>& to, int down, int right, const Taps& rows,
                     const Taps& columns) {
        const int taps = rows.count * columns.count;
        BasicProduct<T> product(x_.channels, outputs_, taps, rows.count);
        product.pack(turned(rows, columns).data(), nullptr, pool_);
        const Blocks blocks(x_.batch, (x_.height - down - 1) / stride_ + 1,
                            (x_.width - right - 1) / stride_ + 1, pool_.threads(),
                            static_cast<size_t>(taps) * x_.channels * outputs_);
        const Window window = {rows.count, columns.count, rows.first_result, columns.first_result,
                               1};
        struct Targets {
            Patches<T> in;
            std::vector<T*> out;
        };
        std::vector<Targets> workers;
        for (int i = 0; i < pool_.threads(); ++i) {
            workers.push_back({Patches<T>(grad_, window, blocks.pixels(), blocks.at_sides()), {}});
        }
        pool_.run(blocks.count(), [&](int item, int worker) {
            Targets& targets = workers[worker];
            targets.in.clear();
            targets.out.clear();
            blocks.for_positions(item, [&](int64_t picture, int y, int x) {
                targets.in.add(picture, y, x);
                targets.out.push_back(to.at(picture, y * stride_ + down, x * stride_ + right));
            });
            product.run(targets.in.rows(), targets.in.get(), Rows<T>(targets.out.data(), 1));
        });
    }

    // The weight [channels][places of outputs][taps] of a phase.
    std::vector<T> turned(const Taps& rows, const Taps& columns) const {
        const ptrdiff_t taps = rows.count * columns.count;
        std::vector<T> weight(x_.channels * taps * outputs_);
        for (int n = 0; n < outputs_; ++n) {
            for (int c = 0; c < x_.channels; ++c) {
                const T* const from = weight_ + (static_cast<ptrdiff_t>(n) * x_.channels + c) * 9;
                T* to = &weight[(static_cast<ptrdiff_t>(c) * outputs_ + place(n)) * taps];
                for (int i = 0; i < rows.count; ++i) {
                    for (int j = 0; j < columns.count; ++j) {
                        *to++ = from[3 * rows.tap[i] + columns.tap[j]];
                    }
                }
            }
        }
        return weight;
    }

    // A thread's rows of the weight's gradient.
    struct Worker {
        Patches<T> patches;
        Floats grad, runs;
        std::vector<const float*> wide;

        explicit Worker(const ConvolutionGradient& c)
            : patches(c.x_, same_window(c.stride_), kGradientTokens,
                      2 * std::min<size_t>(kGradientTokens, kGradientTokens / c.grad_.width + 2)),
              grad(kWiden ? static_cast<size_t>(kGradientTokens) * c.outputs_ : 0,
                   Floats::Fill::none),
              runs(kWiden ? kGradientTokens * 3 * patches.run() : 0, Floats::Fill::none) {}
    };
    static constexpr bool kWiden = !std::is_same_v<T, float>;

    void add_step(Worker& w, int64_t first, int count, int part, WeightGradient& sums) const {
        w.patches.clear();
        for (int64_t i = first; i < first + count; ++i) {
            const int64_t line = i / grad_.width;
            w.patches.add(line / grad_.height, static_cast<int>(line % grad_.height),
                          static_cast<int>(i % grad_.width));
        }
        const float* const grad = as_floats(grad_.data + first * outputs_,
                                            static_cast<ptrdiff_t>(count) * outputs_, w.grad.get());
        w.wide.clear();
        for (int r = 0; r < count; ++r) {
            for (int line = 0; line < 3; ++line) {
                float* const copy = w.runs.get() + (kWiden ? (3 * r + line) * w.patches.run() : 0);
                w.wide.push_back(as_floats(w.patches.get().at(r, line), w.patches.run(), copy));
            }
        }
        sums.add(part, count, grad, outputs_, Rows<const float>(w.wide.data(), 3));
    }

    const Image<const T> x_;
    const T* const weight_;
    const int outputs_, stride_, sub_pixels_;
    Pool& pool_;
    Image<const T> grad_;  // before leaky ReLU and shuffle
    Floats unshuffled_;
};

}  // namespace
}  // namespace flic::cpu

// From grad, the gradient of flic_conv3x3's result without GDN and residual, and that result, out
// (null: it has no leaky ReLU): dx, of x's element type, or null; dweight
// [outputs][channels][3][3], dbias [outputs], or both null.
FLIC_API int flic_conv3x3_backward(const void* grad, const void* out, const void* x, int element,
                                   int64_t batch, int height, int width, int channels,
                                   const void* weight, int outputs, int stride, int shuffle,
                                   void* dx, float* dweight, float* dbias, int threads) {
    using namespace flic::cpu;
    return guarded(element, [&](auto type) {
        using T = decltype(type);
        const Image<const T> image = {static_cast<const T*>(x), batch, height, width, channels};
        ConvolutionGradient<T> gradient(static_cast<const T*>(grad), static_cast<const T*>(out),
                                        image, static_cast<const T*>(weight), outputs, stride,
                                        shuffle, flic::team(threads));
        if (dx) gradient.input(static_cast<T*>(dx));
        if (dweight) gradient.parameters(dweight, dbias);
    });
}
