// 3x3 convolutions on channels-last images, zero padded, as products of packed weights with the
// image itself: a row of the product is three runs of memory, three neighbouring pixels of three
// lines. Only pixels at the image's sides are copied, into rows with zeros.
#include <string.h>

#include <algorithm>
#include <new>
#include <vector>

#include "../status.h"
#include "element.h"
#include "product.h"

namespace flic::cpu {
namespace {

constexpr int kLines = 8;               // of the result, that a thread takes at a time, at most
constexpr int kItemsOfThread = 4;       // at least, if the image has so many lines
constexpr int kSegment = 48;            // pixels: whole register tiles
constexpr int kSegmentBytes = 1 << 19;  // of three lines of a segment: they stay in cache

template <class T>
struct Image {
    T* data;
    int64_t batch;
    int height, width, channels;

    T* at(int64_t picture, int y, int x) const {
        return data + ((picture * height + y) * width + x) * channels;
    }
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
          groups_(groups(outputs, shuffle)),
          height_((x.height - 1) / stride + 1),
          width_((x.width - 1) / stride + 1),
          outputs_(outputs),
          out_{out, x.batch, height_ * shuffle, width_ * shuffle, outputs / (shuffle * shuffle)},
          residual_{residual, x.batch, out_.height, out_.width, out_.channels},
          gdn_(gdn),
          pool_(pool),
          product_(outputs, x.channels, 9, 3, shuffle * shuffle, groups_),
          norm_(gdn.gamma ? outputs : 1, gdn.gamma ? outputs : 1),
          zeros_(3 * static_cast<size_t>(x.channels)) {
        product_.pack(weight, bias, pool);
        if (gdn.gamma) norm_.pack(gdn.gamma, gdn.beta, pool);
        if (leaky) epilogue_.activation = Activation::leaky_relu;
    }

    void run() {
        const int64_t lines = x_.batch * height_;
        const int64_t share = lines / (static_cast<int64_t>(pool_.threads()) * kItemsOfThread);
        const int each = static_cast<int>(std::clamp<int64_t>(share, 1, kLines));
        const int of_picture = (height_ + each - 1) / each;
        std::vector<Worker> workers;
        for (int i = 0; i < pool_.threads(); ++i) workers.emplace_back(*this, each);
        pool_.run(static_cast<int>(x_.batch) * of_picture, [&](int item, int worker) {
            const int begin = item % of_picture * each;
            lines_of(workers[worker], item / of_picture, begin, std::min(height_, begin + each));
        });
    }

  private:
    // A worker's memory: rows at the sides, results before they are shuffled, squares.
    struct Worker {
        Floats sides, results, squares;
        Worker(const Convolution& c, int lines)
            : sides(static_cast<size_t>(lines) * 9 * c.x_.channels, Floats::Fill::none),
              results(c.direct() ? 0 : static_cast<size_t>(std::max(c.width_, lines)) * c.outputs_,
                      Floats::Fill::none),
              squares(c.gdn_.gamma ? static_cast<size_t>(c.width_) * c.outputs_ : 0,
                      Floats::Fill::none) {}
    };

    // Where a sub-pixel's channels are whole vectors, it is written to its place at once.
    static int groups(int outputs, int shuffle) {
        const int sub_pixels = shuffle * shuffle;
        return outputs / sub_pixels % 16 == 0 ? sub_pixels : 1;
    }
    bool direct() const { return groups_ == shuffle_ * shuffle_; }

    // Results whose three pixels all lie in the image: [1, inner_end).
    int inner_end() const { return x_.width < 2 ? 1 : (x_.width - 2) / stride_ + 1; }

    void lines_of(Worker& w, int64_t picture, int begin, int end) {
        const int inner = inner_end();
        const int segment = std::max<int>(
            kSegment,
            kSegmentBytes / (3 * sizeof(T) * stride_ * x_.channels) / kSegment * kSegment);
        for (int first = 1; first < inner; first += segment) {
            const int count = std::min(segment, inner - first);
            for (int y = begin; y < end; ++y) {
                Rows<const T> in;
                in.parts = 3;
                for (int line = 0; line < 3; ++line) {
                    const int from = y * stride_ - 1 + line;
                    const bool inside = from >= 0 && from < x_.height;
                    in.base[line] = inside ? x_.at(picture, from, first * stride_ - 1)
                                           : reinterpret_cast<const T*>(zeros_.get());
                    in.stride[line] = inside ? stride_ * x_.channels : 0;
                }
                multiply(w, in, count, picture, y, first, 0, 1);
            }
        }
        side(w, picture, begin, end, 0);
        for (int x = std::max(inner, 1); x < width_; ++x) side(w, picture, begin, end, x);
        if (gdn_.gamma) normalise(w, picture, begin, end);
    }

    // The results of a column at the image's side, on all lines.
    void side(Worker& w, int64_t picture, int begin, int end, int x) {
        const ptrdiff_t channels = x_.channels;
        T* const rows = reinterpret_cast<T*>(w.sides.get());
        T* to = rows;
        for (int y = begin; y < end; ++y) {
            for (int tap = 0; tap < 9; ++tap, to += channels) {
                const int from_y = y * stride_ - 1 + tap / 3, from_x = x * stride_ - 1 + tap % 3;
                const bool inside =
                    from_y >= 0 && from_y < x_.height && from_x >= 0 && from_x < x_.width;
                if (inside) {
                    memcpy(to, x_.at(picture, from_y, from_x), channels * sizeof(T));
                } else {
                    memset(to, 0, channels * sizeof(T));
                }
            }
        }
        Rows<const T> in;
        in.parts = 3;
        for (int line = 0; line < 3; ++line) {
            in.base[line] = rows + line * 3 * channels;
            in.stride[line] = 9 * channels;
        }
        multiply(w, in, end - begin, picture, begin, x, 1, 0);
    }

    // `count` results from (y, x) on, each dy below and dx to the right of the one before.
    void multiply(Worker& w, const Rows<const T>& in, int count, int64_t picture, int y, int x,
                  int dy, int dx) {
        if (!direct()) {
            T* const results = reinterpret_cast<T*>(w.results.get());
            product_.run(count, in, {results, outputs_}, epilogue_);
            for (int i = 0; i < count; ++i) {
                scatter(results + static_cast<ptrdiff_t>(i) * outputs_, picture, y + i * dy,
                        x + i * dx);
            }
            return;
        }
        Epilogue<T> epilogue = epilogue_;
        Rows<T> out;
        out.parts = groups_;
        for (int g = 0; g < groups_; ++g) {
            const int at_y = y * shuffle_ + g / shuffle_, at_x = x * shuffle_ + g % shuffle_;
            out.base[g] = out_.at(picture, at_y, at_x);
            out.stride[g] = (static_cast<ptrdiff_t>(dy) * out_.width + dx) * shuffle_ *
                            out_.channels;
            if (residual_.data && !gdn_.gamma) {
                epilogue.residual.base[g] = residual_.at(picture, at_y, at_x);
                epilogue.residual.stride[g] = out.stride[g];
            }
        }
        product_.run(count, in, out, epilogue);
    }

    // A pixel's results, sub-pixel by sub-pixel, to their places.
    void scatter(const T* from, int64_t picture, int y, int x) {
        for (int g = 0; g < shuffle_ * shuffle_; ++g, from += out_.channels) {
            const int at_y = y * shuffle_ + g / shuffle_, at_x = x * shuffle_ + g % shuffle_;
            T* const to = out_.at(picture, at_y, at_x);
            if (residual_.data) {
                add(from, residual_.at(picture, at_y, at_x), to, out_.channels);
            } else {
                for (int c = 0; c < out_.channels; ++c) to[c] = from[c];
            }
        }
    }

    void normalise(Worker& w, int64_t picture, int begin, int end) {
        Epilogue<T> epilogue;
        epilogue.root = gdn_.inverse ? Root::multiply : Root::divide;
        for (int y = begin; y < end; ++y) {
            T* const line = out_.at(picture, y, 0);
            square(line, w.squares.get(), static_cast<ptrdiff_t>(width_) * outputs_);
            epilogue.factor = {line, outputs_};
            if (residual_.data) epilogue.residual = {residual_.at(picture, y, 0), outputs_};
            norm_.run(width_, {w.squares.get(), outputs_}, {line, outputs_}, epilogue);
        }
    }

    const Image<const T> x_;
    const int stride_, shuffle_, groups_;
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
FLIC_API int flic_cpu_conv3x3(const void* x, int element, int64_t batch, int height, int width,
                              int channels, const void* weight, const float* bias, int outputs,
                              int stride, int leaky, int shuffle, const float* gamma,
                              const float* beta, int inverse, const void* residual, void* out,
                              int threads) {
    using namespace flic::cpu;
    const auto run = [&](auto type) {
        using T = decltype(type);
        const Image<const T> image = {static_cast<const T*>(x), batch, height, width, channels};
        Convolution<T>(image, static_cast<const T*>(weight), bias, outputs, stride, leaky != 0,
                       shuffle, {gamma, beta, inverse != 0}, static_cast<const T*>(residual),
                       static_cast<T*>(out), flic::team(threads))
            .run();
    };
    try {
        if (static_cast<Element>(element) == Element::float32) {
            run(float());
        } else {
            run(Bfloat16());
        }
        return FLIC_OK;
    } catch (const std::bad_alloc&) {
        return FLIC_OUT_OF_MEMORY;
    }
}
