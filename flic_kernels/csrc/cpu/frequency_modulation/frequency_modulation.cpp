// Frequency modulation of whole images: the loops over windows and threads, and the C interface.
#include <stdint.h>

#include <new>

#include "cpu/kernels.h"
#include "base/floats.h"
#include "base/pool.h"
#include "base/status.h"
#include "cpu/frequency_modulation/modulation.h"

namespace flic::cpu {
namespace {

constexpr int kTokensAtOnce = 256;  // a thread takes at least so many at a time
constexpr int kChunks = 32;         // partial sums of the weight's gradient, at most

struct Image {
    int64_t batch;
    int height, width, channels, size;

    int64_t windows() const { return batch * (height / size) * (width / size); }
    ptrdiff_t row() const { return static_cast<ptrdiff_t>(width) * channels; }
    // Of a window's first value.
    ptrdiff_t offset(int64_t window) const {
        const int columns = width / size;
        return window / columns * size * row() +
               window % columns * size * static_cast<ptrdiff_t>(channels);
    }
    Pixels window(const void* data, int element, int64_t index) const {
        const Element type = static_cast<Element>(element);
        return {data ? advance(data, type, offset(index)) : nullptr, channels, row(), type};
    }
    PixelsOut window_out(void* data, int element, int64_t index) const {
        const Element type = static_cast<Element>(element);
        return {advance(data, type, offset(index)), channels, row(), type};
    }
};

// work(window, worker) for all windows, runs of at least kTokensAtOnce tokens a time.
template <class Work>
void for_windows(const Image& image, int threads, const Work& work) {
    const int64_t tokens = static_cast<int64_t>(image.size) * image.size;
    const int64_t run = tokens < kTokensAtOnce ? kTokensAtOnce / tokens : 1;
    const int64_t windows = image.windows();
    team(threads).run(static_cast<int>((windows + run - 1) / run), [&](int item, int worker) {
        const int64_t end = (item + 1) * run < windows ? (item + 1) * run : windows;
        for (int64_t window = item * run; window < end; ++window) work(window, worker);
    });
}

Floats prepared(const float* weight, const Image& image, bool conjugate) {
    Floats result(static_cast<size_t>(prepared_weight_size(image.size, image.channels)),
                  Floats::Fill::none);
    prepare_weight(weight, image.size, image.channels, conjugate, result.get());
    return result;
}

}  // namespace
}  // namespace flic::cpu

// x, residual (or null) and out [batch, height, width, channels], each of its own element type;
// weight [size, size / 2 + 1, channels, 2].
FLIC_API int flic_frequency_modulation(const void* x, int x_element, const float* weight,
                                       const void* residual, int residual_element, void* out,
                                       int out_element, int64_t batch, int height, int width,
                                       int channels, int size, int threads) {
    using namespace flic::cpu;
    if (!modulation_size(size)) return FLIC_BAD_ARGUMENT;
    try {
        const Image image = {batch, height, width, channels, size};
        const flic::Floats weights = prepared(weight, image, false);
        const ModulationKernels& modulation = kernels().frequency_modulation;
        for_windows(image, threads, [&](int64_t window, int) {
            modulation.modulate(size, channels, weights.get(), image.window(x, x_element, window),
                             image.window(residual, residual_element, window),
                             image.window_out(out, out_element, window));
        });
        return FLIC_OK;
    } catch (const std::bad_alloc&) {
        return FLIC_OUT_OF_MEMORY;
    }
}

// dx (of x's type) and dweight from the result's gradient `grad`. The windows fall into at most 32
// chunks, whatever the number of threads; chunks' sums are added in order.
FLIC_API int flic_frequency_modulation_backward(const void* grad, int grad_element, const void* x,
                                                int x_element, const float* weight, void* dx,
                                                float* dweight, int64_t batch, int height,
                                                int width, int channels, int size, int threads) {
    using namespace flic::cpu;
    if (!modulation_size(size)) return FLIC_BAD_ARGUMENT;
    try {
        const Image image = {batch, height, width, channels, size};
        const flic::Floats weights = prepared(weight, image, true);
        const ModulationKernels& modulation = kernels().frequency_modulation;
        const int64_t windows = image.windows();
        const int chunks = static_cast<int>(windows < kChunks ? windows : kChunks);
        const ptrdiff_t size_of_sums = weight_sums_size(size, channels);
        const flic::Floats sums(static_cast<size_t>((chunks > 0 ? chunks : 1) * size_of_sums));
        flic::team(threads).run(chunks, [&](int chunk, int) {
            for (int64_t w = windows * chunk / chunks; w < windows * (chunk + 1) / chunks; ++w) {
                modulation.modulate_backward(size, channels, weights.get(),
                                          image.window(grad, grad_element, w),
                                          image.window(x, x_element, w),
                                          image.window_out(dx, x_element, w),
                                          sums.get() + chunk * size_of_sums);
            }
        });
        for (int chunk = 1; chunk < chunks; ++chunk) {
            const float* const from = sums.get() + chunk * size_of_sums;
            for (ptrdiff_t i = 0; i < size_of_sums; ++i) sums[static_cast<size_t>(i)] += from[i];
        }
        weight_gradient(sums.get(), size, channels, dweight);
        return FLIC_OK;
    } catch (const std::bad_alloc&) {
        return FLIC_OUT_OF_MEMORY;
    }
}
