// The head of a T-CA layer: windows of an image, normalised and positionally encoded.
#include "cpu/positional_encoding/positional_encoding.h"

#include <algorithm>
#include <vector>

#include "base/floats.h"
#include "base/pool.h"
#include "cpu/guarded.h"
#include "cpu/kernels.h"
#include "cpu/product/row_kernels.h"

namespace flic::cpu {
namespace {

constexpr int kParts = 16;  // sums of the parameters' gradients, at most

void encode(const EncodingKernels& k, const EncodingTask& t, const float* u, float* out) {
    k.encode(t, u, out);
}
void encode(const EncodingKernels& k, const EncodingTask& t, const Bfloat16* u, Bfloat16* out) {
    k.encode_bfloat16(t, u, out);
}
void backward(const EncodingKernels& k, const EncodingTask& t, const float* u, const float* grad,
              float* du, const EncodingSums& sums) {
    k.backward(t, u, grad, du, sums);
}
void backward(const EncodingKernels& k, const EncodingTask& t, const Bfloat16* u,
              const Bfloat16* grad, Bfloat16* du, const EncodingSums& sums) {
    k.backward_bfloat16(t, u, grad, du, sums);
}

// Windows of an image and slices of its channels.
class Encoding {
  public:
    Encoding(int64_t batch, int height, int width, int channels, const float* const* parameters,
             int slices, int window, float eps)
        : across_(width / window),
          windows_(batch * (height / window) * across_),
          width_(width),
          channels_(channels),
          slices_(slices),
          window_(window),
          eps_(eps),
          parameters_(parameters),
          taps_(9 * static_cast<size_t>(channels), Floats::Fill::none) {
        for (int c = 0; c < channels; ++c) {
            for (int tap = 0; tap < 9; ++tap)
                taps_[tap * channels + c] = parameters[2][9 * c + tap];
        }
    }

    int inner() const { return channels_ / slices_; }
    int64_t windows() const { return windows_; }

    EncodingTask task(int slice, float* scratch) const {
        const ptrdiff_t first = first_channel(slice);
        EncodingTask t = {};
        t.window = window_;
        t.channels = inner();
        t.row = static_cast<ptrdiff_t>(width_) * channels_;
        t.pixel = t.out_pixel = t.conv_stride = channels_;
        t.norm1_weight = parameters_[0] + first;
        t.norm1_bias = parameters_[1] + first;
        t.conv_weight = taps_.get() + first;
        t.conv_bias = parameters_[3] + first;
        t.norm2_weight = parameters_[4] + first;
        t.norm2_bias = parameters_[5] + first;
        t.eps = eps_;
        t.scratch = scratch;
        return t;
    }
    // Where a window of a slice begins in the image and in the result.
    ptrdiff_t in_image(int64_t index, int slice) const {
        const int64_t top = index / across_ * window_;  // lines of all pictures follow each other
        return (top * width_ + index % across_ * window_) * channels_ + first_channel(slice);
    }
    ptrdiff_t in_result(int64_t index, int slice) const {
        return index * window_ * window_ * channels_ + first_channel(slice);
    }
    // A slice's part of sums for all channels: norm1, the convolution's taps and bias, norm2.
    EncodingSums sums(float* all, int slice) const {
        float* const own = all + first_channel(slice);
        const auto row = [&](ptrdiff_t r) { return own + r * channels_; };
        return {row(0), row(1), row(2), row(11), row(12), row(13)};
    }
    size_t sums_size() const { return 14 * static_cast<size_t>(channels_); }

  private:
    ptrdiff_t first_channel(int slice) const { return static_cast<ptrdiff_t>(slice) * inner(); }

    const int64_t across_, windows_;
    const int width_, channels_, slices_, window_;
    const float eps_;
    const float* const* const parameters_;
    const Floats taps_;
};

}  // namespace
}  // namespace flic::cpu

// u [batch][height][width][channels] and out [windows][window^2][channels], of one element type;
// parameters: norm1's weight and bias, the convolution's weight [channels][9] and bias, norm2's
// weight and bias. channels a multiple of slices, height and width of window.
FLIC_API int flic_positional_encoding(const void* u, int element, int64_t batch, int height,
                                      int width, int channels, const float* const* parameters,
                                      int slices, int window, float eps, void* out, int threads) {
    using namespace flic::cpu;
    return guarded(element, [&](auto type) {
        using T = decltype(type);
        flic::Pool& pool = flic::team(threads);
        const Encoding e(batch, height, width, channels, parameters, slices, window, eps);
        std::vector<flic::Floats> scratch;
        for (int i = 0; i < pool.threads(); ++i) {
            scratch.emplace_back(encoding_scratch(window, e.inner()));
        }
        const EncodingKernels& encoding = kernels().positional_encoding;
        pool.run(static_cast<int>(e.windows() * slices), [&](int item, int worker) {
            const int slice = item % slices;
            const int64_t index = item / slices;
            encode(encoding, e.task(slice, scratch[worker].get()),
                   static_cast<const T*>(u) + e.in_image(index, slice),
                   static_cast<T*>(out) + e.in_result(index, slice));
        });
    });
}

// From grad, the result's gradient: du, laid out as u; gradients, in the order of the parameters.
// The windows fall into at most 16 parts, whose sums are added in order.
FLIC_API int flic_positional_encoding_backward(const void* grad, const void* u, int element,
                                               int64_t batch, int height, int width, int channels,
                                               const float* const* parameters, int slices,
                                               int window, float eps, void* du,
                                               float* const* gradients, int threads) {
    using namespace flic::cpu;
    return guarded(element, [&](auto type) {
        using T = decltype(type);
        flic::Pool& pool = flic::team(threads);
        const Encoding e(batch, height, width, channels, parameters, slices, window, eps);
        std::vector<flic::Floats> scratch;
        for (int i = 0; i < pool.threads(); ++i) {
            scratch.emplace_back(encoding_backward_scratch(window, e.inner()));
        }
        const int parts = static_cast<int>(std::min<int64_t>(e.windows(), kParts));
        const flic::Floats sums(parts * e.sums_size());
        const EncodingKernels& encoding = kernels().positional_encoding;
        pool.run(parts * slices, [&](int item, int worker) {
            const int slice = item % slices, part = item / slices;
            const EncodingTask task = e.task(slice, scratch[worker].get());
            const EncodingSums own = e.sums(sums.get() + part * e.sums_size(), slice);
            for (int64_t w = e.windows() * part / parts; w < e.windows() * (part + 1) / parts;
                 ++w) {
                backward(encoding, task, static_cast<const T*>(u) + e.in_image(w, slice),
                         static_cast<const T*>(grad) + e.in_result(w, slice),
                         static_cast<T*>(du) + e.in_image(w, slice), own);
            }
        });
        const ptrdiff_t size = static_cast<ptrdiff_t>(e.sums_size());
        for (int part = 1; part < parts; ++part) {
            add(sums.get(), sums.get() + part * size, sums.get(), size);
        }
        const EncodingSums all = e.sums(sums.get(), 0);
        const float* const found[] = {all.norm1_weight, all.norm1_bias,   all.conv_weight,
                                      all.conv_bias,    all.norm2_weight, all.norm2_bias};
        for (int i = 0; i < 6; ++i) {
            if (i != 2) std::copy(found[i], found[i] + channels, gradients[i]);
        }
        for (int c = 0; c < channels; ++c) {
            for (int tap = 0; tap < 9; ++tap) {
                gradients[2][9 * c + tap] = all.conv_weight[tap * channels + c];
            }
        }
    });
}
