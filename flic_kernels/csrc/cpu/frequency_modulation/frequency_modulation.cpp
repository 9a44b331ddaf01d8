// Frequency modulation: the weights prepared, the loops over windows and threads, and the C
// functions.
#include "cpu/frequency_modulation/frequency_modulation.h"

#include <stdint.h>
#include <string.h>

#include <new>

#include "base/floats.h"
#include "base/pool.h"
#include "cpu/kernels.h"
#include "include/flic_kernels.h"

namespace flic::cpu {
namespace {

// One channel of weight [P][P / 2 + 1][channels][2].
struct Channel {
    const float* weight;
    int size, channels;

    float at(int row, int column, int part) const {
        const ptrdiff_t bin = static_cast<ptrdiff_t>(row) * (size / 2 + 1) + column;
        return weight[(bin * channels) * 2 + part];
    }
    // Columns 0 and P / 2 count by what is Hermitian in them: the inverse drops the rest.
    float hermitian(int row, int column, int part) const {
        const float mirrored = at((size - row) % size, column, part);
        return 0.5f * (at(row, column, part) + (part ? -mirrored : mirrored));
    }
};

}  // namespace

void prepare_weight(const float* weight, int size, int channels, bool conjugate, float* prepared) {
    const float scale[2] = {1.0f / static_cast<float>(size * size),
                            (conjugate ? -1.0f : 1.0f) / static_cast<float>(size * size)};
    const ptrdiff_t group_size = static_cast<ptrdiff_t>(size) * (size + 2) * kGroup;
    memset(prepared, 0, static_cast<size_t>(prepared_weight_size(size, channels)) * sizeof(float));
    for (int c = 0; c < channels; ++c) {
        const Channel channel = {weight + 2 * static_cast<ptrdiff_t>(c), size, channels};
        float* to = prepared + c / kGroup * group_size + c % kGroup;
        for (int k = 0; k < size; ++k, to += 4 * kGroup) {
            for (int part = 0; part < 2; ++part) {
                const float first = channel.hermitian(k, 0, part);
                const float last = channel.hermitian(k, size / 2, part);
                to[part * kGroup] = 0.5f * scale[part] * (first + last);
                to[(2 + part) * kGroup] = 0.5f * scale[part] * (first - last);
            }
        }
        for (int column = 1; column < size / 2; ++column) {
            for (int k = 0; k < size; ++k, to += 2 * kGroup) {
                to[0] = scale[0] * channel.at(k, column, 0);
                to[kGroup] = scale[1] * channel.at(k, column, 1);
            }
        }
    }
}

void weight_gradient(const float* sums, int size, int channels, float* gradient) {
    const float scale = 1.0f / static_cast<float>(size * size);
    const ptrdiff_t group_size = static_cast<ptrdiff_t>(size * size + 4) * kGroup;
    for (int c = 0; c < channels; ++c) {
        const auto to = [&](int row, int column) {
            const ptrdiff_t bin = static_cast<ptrdiff_t>(row) * (size / 2 + 1) + column;
            return gradient + (bin * channels + c) * 2;
        };
        const float* from = sums + c / kGroup * group_size + c % kGroup;
        for (int k = 0; k <= size / 2; ++k) {
            for (int column = 0; column <= size / 2; column += size / 2) {
                const float re = 0.25f * scale * from[0], im = 0.25f * scale * from[kGroup];
                float* const mirrored = to((size - k) % size, column);
                mirrored[0] = re;
                mirrored[1] = -im;
                to(k, column)[0] = re;
                to(k, column)[1] = im;
                from += 2 * kGroup;
            }
        }
        for (int column = 1; column < size / 2; ++column) {  // each stands for two bins
            for (int k = 0; k < size; ++k, from += 2 * kGroup) {
                to(k, column)[0] = 2.0f * scale * from[0];
                to(k, column)[1] = 2.0f * scale * from[kGroup];
            }
        }
    }
}

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
                modulation.modulate_backward(
                    size, channels, weights.get(), image.window(grad, grad_element, w),
                    image.window(x, x_element, w), image.window_out(dx, x_element, w),
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
