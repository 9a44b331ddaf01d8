// The transforms' C interface. Every function returns a FlicStatus and throws nothing.
#include <string.h>

#include <algorithm>
#include <memory>
#include <type_traits>

#include "base/errors.h"
#include "base/pool.h"
#include "codec/transforms.h"
#include "cpu/element.h"
#include "cpu/kernels.h"
#include "cpu/product/row_kernels.h"

using flic::Error;
using flic::require;
using flic::codec::Bfloat16;
using flic::codec::Buffers;
using flic::codec::Config;
using flic::codec::Network;
using flic::codec::Pixels;
using flic::codec::Weights;

struct FlicTransforms {
    FlicTransforms(const Config& sizes, const Weights& given)
        : config(sizes), weights(given), wide(sizes, given) {}

    template <class T>
    const Network<T>& network() {
        if constexpr (std::is_same_v<T, float>) {
            return wide;
        } else {
            const flic::Lock lock(mutex);
            if (!narrow) narrow = std::make_unique<Network<Bfloat16>>(config, weights);
            return *narrow;
        }
    }

    const Config config;
    const Weights weights;
    const Network<float> wide;
    flic::Mutex mutex;
    std::unique_ptr<Network<Bfloat16>> narrow;  // made when it is first asked for
};

namespace {

thread_local flic::LastError last_error;

Config make_config(const int32_t* fields, int count) {
    require(fields && count == Config::kFields, "wrong number of configuration fields");
    for (int i = 0; i < count; ++i) {
        require(fields[i] >= 1 && fields[i] <= 1 << 14, "a configuration field is out of range");
    }
    for (int i = 0; i < 3; ++i) {
        require(fields[3 + i] % 4 == 0 && fields[i] % fields[3 + i] == 0,
                "heads must be a multiple of 4 that divides the width");
    }
    return {
        {fields[0], fields[1], fields[2]}, {fields[3], fields[4], fields[5]}, fields[6], fields[7]};
}

void require_margins(const FlicMargins& m) {
    constexpr int kMost = 1 << 10;
    for (const int length : {m.top, m.left, m.bottom, m.right}) {
        require(length >= 0 && length <= kMost, "a margin is out of range");
    }
}

constexpr int kMaxSide = 1 << 17;

float widened(float value) { return value; }
float widened(Bfloat16 value) {
    const uint32_t bits = static_cast<uint32_t>(value) << 16;
    float wide;
    memcpy(&wide, &bits, sizeof wide);
    return wide;
}

// The part of x inside the margins, in planes.
template <class T>
void to_planes(const Pixels<T>& x, const FlicMargins& cut, float* out) {
    const int height = x.height - cut.top - cut.bottom, width = x.width - cut.left - cut.right;
    require(height > 0 && width > 0, "nothing is left inside a tile's margins");
    for (int c = 0; c < x.channels; ++c) {
        for (int row = 0; row < height; ++row) {
            const T* const from =
                x.data + (static_cast<size_t>(row + cut.top) * x.width + cut.left) * x.channels + c;
            for (int column = 0; column < width; ++column) {
                *out++ = widened(from[static_cast<size_t>(column) * x.channels]);
            }
        }
    }
}

// Planes [channels][height][width] with their border repeated outwards, channels-last.
template <class T>
void from_planes(const float* planes, int height, int width, const FlicMargins& around,
                 const Pixels<T>& out) {
    std::vector<float> line(out.channels);
    for (int y = 0; y < out.height; ++y) {
        const int source_y = std::min(std::max(y - around.top, 0), height - 1);
        for (int x = 0; x < out.width; ++x) {
            const int source_x = std::min(std::max(x - around.left, 0), width - 1);
            T* const to = out.data + (static_cast<size_t>(y) * out.width + x) * out.channels;
            const float* const from = planes + static_cast<size_t>(source_y) * width + source_x;
            const size_t plane = static_cast<size_t>(height) * width;
            for (int c = 0; c < out.channels; ++c) line[c] = from[c * plane];
            if constexpr (std::is_same_v<T, float>) {
                memcpy(to, line.data(), out.channels * sizeof(float));
            } else {
                flic::cpu::kernels().rows.to_bfloat16(line.data(), to, out.channels);
            }
        }
    }
}

template <class T>
void analyze(FlicTransforms& transforms, const float* x, int height, int width,
             const FlicAnalysisTile& tile, float* y, int threads) {
    const Network<T>& network = transforms.network<T>();
    Buffers<T> buffers(network.most_of_analysis(height, width, tile));
    to_planes(network.analyze(x, height, width, tile, buffers, threads), tile.cut, y);
}

template <class T>
void synthesize(FlicTransforms& transforms, const float* y_hat, int height, int width,
                const FlicSynthesisTile& tile, float* x_hat, int threads) {
    const Network<T>& network = transforms.network<T>();
    Buffers<T> buffers(network.most_of_synthesis(height, width));
    const Pixels<T> given = buffers.image(0, height, width, transforms.config.latent);
    from_planes(y_hat, height, width, {}, given);
    const Pixels<T> x = network.synthesize(given, tile, buffers, threads);
    for (size_t i = 0; i < x.size(); ++i) x_hat[i] = widened(x.data[i]);
}

}  // namespace

// What went wrong in this thread's last call.
FLIC_API const char* flic_transforms_error(void) { return last_error.text(); }

// config: Config's fields in order. The weights, as flic_exact_create takes them, are not copied:
// they outlive the transforms.
FLIC_API int flic_transforms_create(const int32_t* config, int config_fields,
                                    const char* const* names, const float* const* data,
                                    const int64_t* sizes, int count, FlicTransforms** out) {
    return last_error.guard([&] {
        require(names && data && sizes && out && count >= 0, "null pointer");
        Weights weights;
        for (int i = 0; i < count; ++i) weights.add(names[i], data[i], sizes[i]);
        *out = new FlicTransforms(make_config(config, config_fields), weights);
    });
}

FLIC_API int flic_transforms_destroy(FlicTransforms* transforms) {
    return last_error.guard([&] { delete transforms; });
}

// x [height][width][3], both sides multiples of 32 -> y [latent][..][..] and z [hyper][..][..],
// less their margins. g_a computes in `element`, h_a in float32.
FLIC_API int flic_transforms_analyze(FlicTransforms* transforms, int element, const float* x,
                                     int height, int width, const FlicAnalysisTile* tile, float* y,
                                     float* z, int threads) {
    return last_error.guard([&] {
        require(transforms && x && tile && y && z && threads >= 1, "bad argument");
        require(height > 0 && width > 0 && height <= kMaxSide && width <= kMaxSide &&
                    height % 32 == 0 && width % 32 == 0,
                "a side is out of range");
        const FlicAnalysisTile& t = *tile;
        for (const FlicMargins& m : {t.middle, t.coarse, t.cut, t.around, t.hyper_cut}) {
            require_margins(m);
        }
        const bool narrow = element == static_cast<int>(flic::cpu::Element::bfloat16);
        (narrow ? analyze<Bfloat16> : analyze<float>)(*transforms, x, height, width, t, y, threads);
        const int y_height =
            ((height / 4 + t.middle.top + t.middle.bottom) / 2 + t.coarse.top + t.coarse.bottom) /
                2 -
            t.cut.top - t.cut.bottom;
        const int y_width =
            ((width / 4 + t.middle.left + t.middle.right) / 2 + t.coarse.left + t.coarse.right) /
                2 -
            t.cut.left - t.cut.right;
        const int rows = y_height + t.around.top + t.around.bottom;
        const int columns = y_width + t.around.left + t.around.right;
        const Network<float>& network = transforms->wide;
        Buffers<float> buffers(network.most_of_hyper_analysis(rows, columns));
        const Pixels<float> given = buffers.image(0, rows, columns, transforms->config.latent);
        from_planes(y, y_height, y_width, t.around, given);
        to_planes(network.hyper_analyze(given, buffers, threads), t.hyper_cut, z);
    });
}

// y_hat [latent][height][width], both sides multiples of 8 -> x_hat [..][..][3], less the margins,
// not clamped.
FLIC_API int flic_transforms_synthesize(FlicTransforms* transforms, int element, const float* y_hat,
                                        int height, int width, const FlicSynthesisTile* tile,
                                        float* x_hat, int threads) {
    return last_error.guard([&] {
        require(transforms && y_hat && tile && x_hat && threads >= 1, "bad argument");
        require(height > 0 && width > 0 && height <= kMaxSide && width <= kMaxSide &&
                    height % 8 == 0 && width % 8 == 0,
                "a side is out of range");
        for (const FlicMargins& m : {tile->middle, tile->fine, tile->cut}) require_margins(m);
        const bool narrow = element == static_cast<int>(flic::cpu::Element::bfloat16);
        (narrow ? synthesize<Bfloat16> : synthesize<float>)(*transforms, y_hat, height, width,
                                                            *tile, x_hat, threads);
    });
}
