// 3x3 convolutions on channels-last images, zero padded, as products of packed weights with the
// image itself, and what follows them in a residual block.
#include <vector>

#include "base/large_pages.h"
#include "cpu/conv3x3/patches.h"
#include "cpu/guarded.h"
#include "cpu/product/product.h"

namespace flic::cpu {
namespace {

// The parameters of GDN after the convolution; gamma null: none.
struct Normalisation {
    const float *gamma, *beta;
    bool inverse;
};

template <class T>
class Convolution {
  public:
    Convolution(const Image<const T>& x, const T* weight, const float* bias, int outputs,
                int stride, bool leaky, int shuffle, const Normalisation& gdn, const T* residual,
                T* out, Pool& pool)
        : x_(x),
          stride_(stride),
          shuffle_(shuffle),
          sub_pixels_(shuffle * shuffle),
          groups_(outputs / sub_pixels_ % 16 ? 1 : sub_pixels_),
          outputs_(outputs),
          blocks_(x.batch, (x.height - 1) / stride + 1, (x.width - 1) / stride + 1, pool.threads(),
                  9 * static_cast<size_t>(outputs) * x.channels),
          out_{out, x.batch, blocks_.height * shuffle, blocks_.width * shuffle,
               outputs / sub_pixels_},
          residual_{residual, x.batch, out_.height, out_.width, out_.channels},
          gdn_(gdn),
          pool_(pool),
          product_(outputs, x.channels, 9, 3, sub_pixels_, groups_),
          norm_(gdn.gamma ? outputs : 1, gdn.gamma ? outputs : 1) {
        product_.pack(weight, bias, pool);
        if (gdn.gamma) norm_.pack(gdn.gamma, gdn.beta, pool);
        if (leaky) epilogue_.activation = Activation::leaky_relu;
        ask_for_large_pages(out, out_.bytes());
    }

    void run() {
        std::vector<Worker> workers;
        for (int i = 0; i < pool_.threads(); ++i) workers.emplace_back(*this);
        pool_.run(blocks_.count(), [&](int item, int worker) { compute(workers[worker], item); });
    }

  private:
    // A worker's memory: its rows, where they go, results before they are shuffled or normalised.
    struct Worker {
        Patches<T> in;
        std::vector<const T*> residual;
        std::vector<T*> out;
        Floats results;

        explicit Worker(const Convolution& c)
            : in(c.x_, same_window(c.stride_), c.blocks_.pixels(), c.blocks_.at_sides()) {
            const size_t rows = c.blocks_.pixels();
            out.reserve(c.sub_pixels_ * rows);
            residual.reserve(c.sub_pixels_ * rows);
            if (c.gdn_.gamma || !c.direct())
                results = Floats(rows * c.outputs_, Floats::Fill::none);
        }
    };

    // Where a sub-pixel's channels are whole vectors, the product writes them to their place.
    bool direct() const { return groups_ == sub_pixels_; }

    void compute(Worker& w, int block) const {
        w.in.clear();
        w.out.clear();
        w.residual.clear();
        blocks_.for_positions(block, [&](int64_t picture, int y, int x) {
            w.in.add(picture, y, x);
            add_targets(w, picture, y, x);
        });
        const int rows = w.in.rows();
        const Rows<const T> in = w.in.get();
        if (!direct()) {
            T* const results = reinterpret_cast<T*>(w.results.get());
            product_.run(rows, in, {results, outputs_}, epilogue_);
            scatter(w, results);
            return;
        }
        Epilogue<T> epilogue = epilogue_;
        const Rows<T> out(w.out.data(), sub_pixels_);
        const Rows<const T> residual(w.residual.data(), sub_pixels_);
        if (!gdn_.gamma) {
            if (residual_.data) epilogue.residual = residual;
            product_.run(rows, in, out, epilogue);
            return;
        }
        product_.run(rows, in, out, epilogue);
        float* const squares = w.results.get();
        for (int r = 0; r < rows; ++r) {
            square(w.out[r], squares + static_cast<ptrdiff_t>(r) * outputs_, outputs_);
        }
        Epilogue<T> normalise;
        normalise.root = gdn_.inverse ? Root::multiply : Root::divide;
        normalise.factor = Rows<const T>(const_cast<const T* const*>(w.out.data()), 1);
        if (residual_.data) normalise.residual = residual;
        norm_.run(rows, {squares, outputs_}, out, normalise);
    }

    void add_targets(Worker& w, int64_t picture, int y, int x) const {
        for (int g = 0; g < sub_pixels_; ++g) {
            const int at_y = y * shuffle_ + g / shuffle_, at_x = x * shuffle_ + g % shuffle_;
            w.out.push_back(out_.at(picture, at_y, at_x));
            if (residual_.data) w.residual.push_back(residual_.at(picture, at_y, at_x));
        }
    }

    // Results, sub-pixel by sub-pixel, to their places.
    void scatter(const Worker& w, const T* from) const {
        const bool with_residual = residual_.data != nullptr;
        for (size_t i = 0; i < w.out.size(); ++i, from += out_.channels) {
            if (with_residual) {
                add(from, w.residual[i], w.out[i], out_.channels);
            } else {
                for (int c = 0; c < out_.channels; ++c) w.out[i][c] = from[c];
            }
        }
    }

    const Image<const T> x_;
    const int stride_, shuffle_, sub_pixels_, groups_, outputs_;
    const Blocks blocks_;  // of the convolution's results before the shuffle
    const Image<T> out_;
    const Image<const T> residual_;
    const Normalisation gdn_;
    Pool& pool_;
    BasicProduct<T> product_;
    Product norm_;
    Epilogue<T> epilogue_;
};

}  // namespace
}  // namespace flic::cpu

// x [batch][height][width][channels], weight [outputs][channels][3][3], residual (or null) and out
// [batch][shuffle * height out][shuffle * width out][outputs / shuffle^2], of one element type;
// bias [outputs] or null; gamma [outputs][outputs] and beta [outputs], or null. The caller has
// checked that the shapes fit together.
FLIC_API int flic_conv3x3(const void* x, int element, int64_t batch, int height, int width,
                          int channels, const void* weight, const float* bias, int outputs,
                          int stride, int leaky, int shuffle, const float* gamma, const float* beta,
                          int inverse, const void* residual, void* out, int threads) {
    using namespace flic::cpu;
    return guarded(element, [&](auto type) {
        using T = decltype(type);
        const Image<const T> image = {static_cast<const T*>(x), batch, height, width, channels};
        Convolution<T>(image, static_cast<const T*>(weight), bias, outputs, stride, leaky != 0,
                       shuffle, {gamma, beta, inverse != 0}, static_cast<const T*>(residual),
                       static_cast<T*>(out), flic::team(threads))
            .run();
    });
}
