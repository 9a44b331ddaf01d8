// 3x3 convolutions on channels-last images, zero padded, as products of packed weights with the
// image itself: a row of the product is three runs of memory, three neighbouring pixels of three
// lines. Only pixels at the image's sides are copied, into rows with zeros.
#include <string.h>

#include <algorithm>
#include <vector>

#include "guarded.h"
#include "large_pages.h"
#include "product.h"

namespace flic::cpu {
namespace {

// A block of results that a thread computes at a time: so many that weights from beyond the cache
// serve many rows, so few that the pixels they are made from stay in it.
constexpr int kBlockWidth = 48;
constexpr int kBlockPixels = 192;
constexpr int kBlocksOfThread = 3;  // at least, if the image has so many lines

template <class T>
struct Image {
    T* data;
    int64_t batch;
    int height, width, channels;

    T* at(int64_t picture, int y, int x) const {
        return data + ((picture * height + y) * width + x) * channels;
    }
    size_t bytes() const { return static_cast<size_t>(batch) * height * width * channels * sizeof(T); }
};

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
          height_((x.height - 1) / stride + 1),
          width_((x.width - 1) / stride + 1),
          outputs_(outputs),
          out_{out, x.batch, height_ * shuffle, width_ * shuffle, outputs / sub_pixels_},
          residual_{residual, x.batch, out_.height, out_.width, out_.channels},
          gdn_(gdn),
          pool_(pool),
          product_(outputs, x.channels, 9, 3, sub_pixels_, groups_),
          norm_(gdn.gamma ? outputs : 1, gdn.gamma ? outputs : 1),
          zeros_(3 * static_cast<size_t>(x.channels)) {
        product_.pack(weight, bias, pool);
        if (gdn.gamma) norm_.pack(gdn.gamma, gdn.beta, pool);
        if (leaky) epilogue_.activation = Activation::leaky_relu;
        ask_for_large_pages(out, out_.bytes());
    }

    void run() {
        const int across = (width_ + kBlockWidth - 1) / kBlockWidth;
        const int block_width = (width_ + across - 1) / across;
        const int64_t lines = x_.batch * height_;
        const int64_t share = lines * across / (pool_.threads() * kBlocksOfThread);
        const int block_height = static_cast<int>(
            std::clamp<int64_t>(share, 1, std::max(1, kBlockPixels / block_width)));
        const int down = (height_ + block_height - 1) / block_height;
        std::vector<Worker> workers;
        for (int i = 0; i < pool_.threads(); ++i) {
            workers.emplace_back(*this, block_width, block_height);
        }
        pool_.run(static_cast<int>(x_.batch * down * across), [&](int item, int worker) {
            const int left = item % across * block_width, top = item / across % down * block_height;
            compute(workers[worker], {item / across / down, top,
                                      std::min(height_, top + block_height), left,
                                      std::min(width_, left + block_width)});
        });
    }

  private:
    struct Block {
        int64_t picture;
        int top, bottom, left, right;
    };

    // A worker's memory: where its rows are, rows at the image's sides, results before they are
    // shuffled or normalised.
    struct Worker {
        std::vector<const T*> in, residual;
        std::vector<T*> out;
        Floats sides, results;

        Worker(const Convolution& c, int block_width, int block_height)
            : sides(static_cast<size_t>(block_height) * 2 * 9 * c.x_.channels, Floats::Fill::none) {
            const size_t rows = static_cast<size_t>(block_height) * block_width;
            in.reserve(3 * rows);
            out.reserve(c.sub_pixels_ * rows);
            residual.reserve(c.sub_pixels_ * rows);
            if (c.gdn_.gamma || !c.direct()) results = Floats(rows * c.outputs_, Floats::Fill::none);
        }
    };

    // Where a sub-pixel's channels are whole vectors, the product writes them to their place.
    bool direct() const { return groups_ == sub_pixels_; }

    void compute(Worker& w, const Block& b) {
        w.in.clear();
        w.out.clear();
        w.residual.clear();
        // The pixels around results [1, inner) are in the image.
        const int inner = x_.width < 2 ? 1 : (x_.width - 2) / stride_ + 1;
        for (int y = b.top; y < b.bottom; ++y) {
            for (int x = std::max(b.left, 1); x < std::min(b.right, inner); ++x) {
                for (int line = -1; line <= 1; ++line) {
                    const int from = y * stride_ + line;
                    w.in.push_back(from >= 0 && from < x_.height
                                       ? x_.at(b.picture, from, x * stride_ - 1)
                                       : reinterpret_cast<const T*>(zeros_.get()));
                }
                add_targets(w, b.picture, y, x);
            }
        }
        T* side = reinterpret_cast<T*>(w.sides.get());
        if (b.left == 0) side = add_column(w, b, 0, side);
        for (int x = std::max({b.left, inner, 1}); x < b.right; ++x) side = add_column(w, b, x, side);

        const int rows = static_cast<int>(w.in.size() / 3);
        const Rows<const T> in(w.in.data(), 3);
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

    // The rows of one column at the image's side: their pixels are copied to `to`, zeros beyond the
    // image. Returns where the next may go.
    T* add_column(Worker& w, const Block& b, int x, T* to) const {
        const ptrdiff_t channels = x_.channels;
        for (int y = b.top; y < b.bottom; ++y) {
            for (int tap = 0; tap < 9; ++tap, to += channels) {
                const int from_y = y * stride_ - 1 + tap / 3, from_x = x * stride_ - 1 + tap % 3;
                if (tap % 3 == 0) w.in.push_back(to);
                if (from_y >= 0 && from_y < x_.height && from_x >= 0 && from_x < x_.width) {
                    memcpy(to, x_.at(b.picture, from_y, from_x), channels * sizeof(T));
                } else {
                    memset(to, 0, channels * sizeof(T));
                }
            }
            add_targets(w, b.picture, y, x);
        }
        return to;
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
    const int stride_, shuffle_, sub_pixels_, groups_;
    const int height_, width_, outputs_;  // of the convolution's results before the shuffle
    const Image<T> out_;
    const Image<const T> residual_;
    const Normalisation gdn_;
    Pool& pool_;
    BasicProduct<T> product_;
    Product norm_;
    Floats zeros_;
    Epilogue<T> epilogue_;
};

}  // namespace
}  // namespace flic::cpu

// x [batch][height][width][channels], weight [outputs][channels][3][3], residual (or null) and out
// [batch][shuffle * height out][shuffle * width out][outputs / shuffle^2], of one element type; bias
// [outputs] or null; gamma [outputs][outputs] and beta [outputs], or null. The caller has checked
// that the shapes fit together.
FLIC_API int flic_conv3x3(const void* x, int element, int64_t batch, int height, int width,
                              int channels, const void* weight, const float* bias, int outputs,
                              int stride, int leaky, int shuffle, const float* gamma,
                              const float* beta, int inverse, const void* residual, void* out,
                              int threads) {
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
