// The exact engine's C interface. Every function returns a FlicStatus and throws nothing.
#include <algorithm>
#include <memory>
#include <utility>

#include "base/errors.h"
#include "base/float_environment.h"
#include "base/isa.h"
#include "exact/engine.h"
#include "include/flic_kernels.h"

using flic::Error;
using flic::require;
using namespace flic::exact;

struct FlicEngine final : Engine {
    FlicEngine(const Config& config, const Kernels& kernels,
               std::shared_ptr<const PackedWeights> weights, int threads, uint64_t hash)
        : Engine(config, kernels, std::move(weights), threads), fingerprint(hash) {}
    const uint64_t fingerprint;
};

struct FlicPicture final : Picture {
    using Picture::Picture;
};

namespace {

thread_local flic::LastError last_error;

template <class Body>
int guarded(const Body& body) {
    const flic::FloatEnvironment environment;
    return last_error.guard(body);
}

constexpr int kMaxThreads = 256;
constexpr int kMaxSide = 1 << 14;  // of y

void require_side(int height, int width, int most) {
    require(height > 0 && width > 0 && height <= most && width <= most, "a side is out of range");
}

}  // namespace

// What went wrong in this thread's last call.
FLIC_API const char* flic_exact_error() { return last_error.text(); }

// A model's engine. config: Config's fields in order. The weights are copied; count of them, each
// with a name of the published state dict, its values and their number.
FLIC_API int flic_exact_create(const int32_t* config, int config_fields, const char* const* names,
                               const float* const* data, const int64_t* sizes, int count, int isa,
                               int threads, FlicEngine** out) {
    return guarded([&] {
        require(names && data && sizes && out && count >= 0, "null pointer");
        require(threads >= 1 && threads <= kMaxThreads, "the number of threads must be 1 to 256");
        const Kernels& kernels = kernels_for(isa);
        WeightTable table;
        for (int i = 0; i < count; ++i) table.add(names[i], data[i], sizes[i]);
        const Config sizes = make_config(config, config_fields);
        const auto weights = std::make_shared<PackedWeights>();
        for (const auto& task : load(table, sizes, kernels.panel_vectors, *weights)) task();
        *out = new FlicEngine(sizes, kernels, weights, threads, table.fingerprint());
    });
}

FLIC_API int flic_exact_destroy(FlicEngine* engine) {
    return guarded([&] { delete engine; });
}

// Over the weights in use and what was folded from them; the same for every instruction set.
FLIC_API int flic_exact_fingerprint(const FlicEngine* engine, uint64_t* out) {
    return guarded([&] {
        require(engine && out, "null pointer");
        *out = engine->fingerprint;
    });
}

// z_hat [hyper_latent][height][width] -> means and scales [latent][4 height][4 width].
FLIC_API int flic_exact_hyper(FlicEngine* engine, const float* z_hat, int height, int width,
                              float* means, float* scales) {
    return guarded([&] {
        require(engine && z_hat && means && scales, "null pointer");
        require_side(height, width, kMaxSide / 4);
        const flic::Lock lock(engine->mutex);
        engine->hyper(z_hat, height, width, means, scales);
    });
}

// Begins a picture from the hyperprior's means and scales [latent][height][width]; the engine must
// outlive it.
FLIC_API int flic_exact_begin(FlicEngine* engine, const float* means, const float* scales,
                              int height, int width, FlicPicture** out) {
    return guarded([&] {
        require(engine && means && scales && out, "null pointer");
        require_side(height, width, kMaxSide);
        require(height % kWindow == 0 && width % kWindow == 0,
                "y's height and width must be multiples of 8");
        const flic::Lock lock(engine->mutex);
        *out = new FlicPicture(*engine, means, scales, height, width);
    });
}

// flic_exact_hyper and flic_exact_begin in one.
FLIC_API int flic_exact_open(FlicEngine* engine, const float* z_hat, int height, int width,
                             FlicPicture** out) {
    return guarded([&] {
        require(engine && z_hat && out, "null pointer");
        require_side(height, width, kMaxSide / 4);
        const flic::Lock lock(engine->mutex);
        const size_t values = 16 * static_cast<size_t>(engine->config.latent) * height * width;
        const flic::Floats means(values), scales(values);
        engine->hyper(z_hat, height, width, means.get(), scales.get());
        *out = new FlicPicture(*engine, means.get(), scales.get(), 4 * height, 4 * width);
    });
}

// Slice i's means, scales and corrections [slice_channels][height][width] from slice i - 1 (ignored
// for the first).
FLIC_API int flic_exact_slice(FlicPicture* picture, int i, const float* previous, float* means,
                              float* scales, float* corrections) {
    return guarded([&] {
        require(picture && means && scales && corrections, "null pointer");
        const flic::Lock lock(picture->engine().mutex);
        picture->slice(i, previous, means, scales, corrections);
    });
}

FLIC_API int flic_exact_end(FlicPicture* picture) {
    return guarded([&] { delete picture; });
}

// u of the slice computed last, [windows][64][inner]; count: of floats that `out` holds.
FLIC_API int flic_exact_hidden(const FlicPicture* picture, float* out, int64_t count) {
    return guarded([&] {
        require(picture && out, "null pointer");
        require(count == static_cast<int64_t>(picture->hidden().size()), "wrong size");
        std::copy(picture->hidden().get(), picture->hidden().get() + count, out);
    });
}

// Multiply-adds of a picture's products, convolutions and attentions so far.
FLIC_API int flic_exact_multiply_adds(const FlicPicture* picture, int64_t* out) {
    return guarded([&] {
        require(picture && out, "null pointer");
        *out = picture->multiply_adds();
    });
}

// The processor's most multiply-adds, for benchmarks: `iterations` of each thread's loop; how many
// were done in all is put into `multiply_adds`, and the caller takes the time.
FLIC_API int flic_exact_fma_loop(int isa, int threads, int64_t iterations, double* multiply_adds) {
    return guarded([&] {
        require(multiply_adds && iterations >= 0, "bad argument");
        require(threads >= 1 && threads <= kMaxThreads, "the number of threads must be 1 to 256");
        const Kernels& kernels = kernels_for(isa);
        std::vector<double> done(threads);
        flic::Pool(threads).run(threads, [&](int item, int) {
            float state[16];
            std::fill(state, state + 16, 0.5f);
            done[item] = kernels.fma_loop(iterations, state);
        });
        *multiply_adds = 0;
        for (const double count : done) *multiply_adds += count;
    });
}

// One function over an array: 0 exp of non-positive values, 1 GELU. count must be a multiple of 16.
FLIC_API int flic_exact_function(int function, const float* x, float* out, int64_t count, int isa) {
    return guarded([&] {
        require(x && out && count >= 0 && count % 16 == 0 && (function == 0 || function == 1),
                "bad argument");
        const Kernels& kernels = kernels_for(isa);
        (function ? kernels.gelu : kernels.exp_nonpositive)(x, out, count);
    });
}
