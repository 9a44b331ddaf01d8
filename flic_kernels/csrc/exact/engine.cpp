#include "exact/engine.h"

#include <math.h>

#include <algorithm>
#include <utility>

#include "base/errors.h"
#include "base/isa.h"
#include "include/flic_kernels.h"

namespace flic::exact {

const Kernels& kernels_for(int isa) {
    require(isa >= -1 && isa <= 2, "unknown instruction set");
    const int level = isa < 0 ? static_cast<int>(flic::isa()) : isa;
    if (level > flic_isa_best())
        throw Error(FLIC_NO_SUCH_ISA, "the machine lacks the instruction set");
#if defined(FLIC_X86_64)
    if (level == 2) return avx512::kernels;
    if (level == 1) return avx2::kernels;
#endif
    return scalar::kernels;
}

HaloImage::HaloImage(int height, int width, int channels)
    : height_(height),
      width_(width),
      stride_(padded(channels)),
      data_(static_cast<size_t>(height + 2) * (width + 2) * padded(channels)) {
    for (int t = 0; t < 9; ++t)
        offsets_[t] = (static_cast<ptrdiff_t>(t / 3 - 1) * (width + 2) + t % 3 - 1) * stride_;
}

void HaloImage::read_planes(const float* planes, int first, int channels) {
    for (int y = 0; y < height_; ++y) {
        for (int c = 0; c < channels; ++c) {
            const float* const from = planes + (static_cast<size_t>(c) * height_ + y) * width_;
            float* const to = pixel(y, 0) + first + c;
            for (int x = 0; x < width_; ++x) to[static_cast<ptrdiff_t>(x) * stride_] = from[x];
        }
    }
}

Engine::Engine(const Config& c, const Kernels& k, std::shared_ptr<const PackedWeights> packed,
               int thread_count)
    : config(c), kernels(k), weights(std::move(packed)), threads(thread_count) {
    for (int i = 0; i < threads; ++i) {
        workers.push_back({Floats(static_cast<size_t>(kHalo) * kHalo * config.inner()),
                           Floats(scratch_size()), std::vector<const float*>(config.slices)});
    }
}

size_t Engine::scratch_size() const {
    const size_t width = padded(config.width), inner = config.inner();
    const size_t hyper = kRows * (4 * width + 3 * width + padded(config.latent)) + 64;
    const size_t attention =
        4 * static_cast<size_t>(kTileTokens) * 16 * (config.width / config.heads);
    const size_t layer = 3 * kPositions * inner + 4 * config.slices * inner + 64;
    const size_t entropy = kRows * static_cast<size_t>(padded(3 * config.slice_channels()));
    return std::max({hyper, attention, layer, entropy});
}

void dense(const Kernels& kernels, const Packed& weights, int rows, const float* in,
           ptrdiff_t in_stride, float* out, ptrdiff_t out_stride) {
    const ptrdiff_t offset = 0;
    const float* from[kPositions];
    float* to[kPositions];
    for (int r = 0; r < rows; ++r) {
        from[r] = in + r * in_stride;
        to[r] = out + r * out_stride;
    }
    kernels.product(weights.product(), &offset, rows, from, to);
}

bool all_finite(const float* x, size_t count) {
    for (size_t i = 0; i < count; ++i) {
        if (!isfinite(x[i])) return false;
    }
    return true;
}

}  // namespace flic::exact
