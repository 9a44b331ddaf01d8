// The head of a T-CA layer: windows of an image, normalised and positionally encoded.
#include <vector>

#include "../floats.h"
#include "../isa.h"
#include "../pool.h"
#include "encoding.h"
#include "guarded.h"

namespace flic::cpu {
namespace {

const EncodingKernels& encoding_kernels() {
#if defined(__x86_64__)
    if (isa() == Isa::avx512) return kAvx512Encoding;
    if (isa() == Isa::avx2) return kAvx2Encoding;
#endif
    return kScalarEncoding;
}

void encode(const EncodingKernels& k, const EncodingTask& t, const float* u, float* out) {
    k.encode(t, u, out);
}
void encode(const EncodingKernels& k, const EncodingTask& t, const Bfloat16* u, Bfloat16* out) {
    k.encode_bfloat16(t, u, out);
}

}  // namespace
}  // namespace flic::cpu

// u [batch][height][width][channels] and out [windows][window^2][channels], of one element type;
// parameters: norm1's weight and bias, the convolution's weight [channels][9] and bias, norm2's weight
// and bias. channels a multiple of slices, height and width of window.
FLIC_API int flic_positional_encoding(const void* u, int element, int64_t batch, int height,
                                      int width, int channels, const float* const* parameters,
                                      int slices, int window, float eps, void* out, int threads) {
    using namespace flic::cpu;
    return guarded(element, [&](auto type) {
        using T = decltype(type);
        flic::Pool& pool = flic::team(threads);
        const int inner = channels / slices, across = width / window, down = height / window;
        const flic::Floats weights(9 * static_cast<size_t>(channels), flic::Floats::Fill::none);
        for (int c = 0; c < channels; ++c) {
            for (int tap = 0; tap < 9; ++tap) weights[tap * channels + c] = parameters[2][9 * c + tap];
        }
        std::vector<flic::Floats> scratch;
        for (int i = 0; i < pool.threads(); ++i) scratch.emplace_back(encoding_scratch(window, inner));
        const EncodingKernels& kernels = encoding_kernels();
        pool.run(static_cast<int>(batch * down * across * slices), [&](int item, int worker) {
            const ptrdiff_t first = static_cast<ptrdiff_t>(item % slices) * inner;
            const int64_t index = item / slices, left = index % across * window;
            const int64_t top = index / across * window;  // lines of all pictures follow each other
            EncodingTask t = {};
            t.window = window;
            t.channels = inner;
            t.row = static_cast<ptrdiff_t>(width) * channels;
            t.pixel = t.out_pixel = channels;
            t.norm1_weight = parameters[0] + first;
            t.norm1_bias = parameters[1] + first;
            t.conv_weight = weights.get() + first;
            t.conv_stride = channels;
            t.conv_bias = parameters[3] + first;
            t.norm2_weight = parameters[4] + first;
            t.norm2_bias = parameters[5] + first;
            t.eps = eps;
            t.scratch = scratch[worker].get();
            encode(kernels, t, static_cast<const T*>(u) + (top * width + left) * channels + first,
                   static_cast<T*>(out) + index * window * window * channels + first);
        });
    });
}
