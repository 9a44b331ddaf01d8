// The exact engine on CUDA: device_engine.h's kernels as launches, behind the C interface of
// capi.cpp.
//
// Pointers are the host's, streams CUDA's (0 is the legacy default stream). Every call waits once,
// for its result.
#include <memory>
#include <mutex>
#include <vector>

#include "base/errors.h"
#include "base/float_environment.h"
#include "exact/device_picture.h"

using flic::require;

namespace {

using Engine = flic::exact::device::DeviceEngine;

// Memory belongs to the device that was current at creation.
struct OnDevice {
    explicit OnDevice(int device) {
        check(cudaGetDevice(&before));
        check(cudaSetDevice(device));
    }
    ~OnDevice() { cudaSetDevice(before); }
    int before;
};

using Picture = flic::exact::device::DevicePicture;

}  // namespace

struct FlicCudaEngine {
    // Memory and captured graphs for a picture of this size: those of one that ended, if any.
    std::unique_ptr<Picture> take(int height, int width) {
        for (auto picture = idle.begin(); picture != idle.end(); ++picture) {
            if ((*picture)->height() != height || (*picture)->width() != width) continue;
            std::unique_ptr<Picture> taken = std::move(*picture);
            idle.erase(picture);
            return taken;
        }
        try {
            return std::make_unique<Picture>(engine, height, width);
        } catch (const flic::Error& error) {
            if (error.status != FLIC_OUT_OF_MEMORY || idle.empty()) throw;
        }
        idle.clear();
        return std::make_unique<Picture>(engine, height, width);
    }
    void keep(std::unique_ptr<Picture> picture) {
        if (idle.size() == kIdle) idle.erase(idle.begin());
        idle.push_back(std::move(picture));
    }

    static constexpr size_t kIdle = 2;  // a picture size upright and across
    Engine engine;
    int device;
    std::mutex mutex;
    std::vector<std::unique_ptr<Picture>> idle;  // the one used last is last
};

struct FlicCudaPicture {
    std::unique_ptr<Picture> picture;
    FlicCudaEngine* engine;
};

namespace {

thread_local flic::LastError last_error;

template <class Body>
int guarded(const Body& body) {
    const flic::FloatEnvironment environment;
    return last_error.guard(body);
}

// With the engine's device and the stream current and the engine's lock held.
template <class Body>
int guarded(FlicCudaEngine* handle, cudaStream_t stream, const Body& body) {
    return guarded([&] {
        require(handle, "null pointer");
        const std::lock_guard<std::mutex> lock(handle->mutex);
        const OnDevice device(handle->device);
        const OnStream current(stream);
        body();
    });
}

void require_finite(const float* x, size_t count) {
    for (size_t i = 0; i < count; ++i) {
        if (!(x[i] - x[i] == 0))
            throw flic::Error(FLIC_NOT_FINITE, "the input holds NaN or infinity");
    }
}

constexpr int kMaxSide = 1 << 14;  // of y

void require_z(const float* z_hat, int height, int width, const FlicCudaEngine& handle) {
    require(z_hat, "null pointer");
    require(height > 0 && width > 0 && height <= kMaxSide / 4 && width <= kMaxSide / 4,
            "a side is out of range");
    require(height % 2 == 0 && width % 2 == 0, "z's height and width must be even");
    require_finite(z_hat, static_cast<size_t>(handle.engine.config.hyper_latent) * height * width);
}

// The driver's pool gives memory that is free back to the system at every wait, unless told to keep
// it for the next picture.
void keep_memory(int device) {
    cudaMemPool_t pool;
    check(cudaDeviceGetDefaultMemPool(&pool, device));
    uint64_t bytes = UINT64_MAX;
    check(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &bytes));
}

}  // namespace

FLIC_API const char* flic_exact_cuda_error() { return last_error.text(); }

// As flic_exact_create, on CUDA device `device`; -1 takes the current one.
FLIC_API int flic_exact_cuda_create(const int32_t* config, int config_fields,
                                    const char* const* names, const float* const* data,
                                    const int64_t* sizes, int count, int device,
                                    FlicCudaEngine** out) {
    return guarded([&] {
        require(names && data && sizes && out && count >= 0, "null pointer");
        if (device < 0) check(cudaGetDevice(&device));
        const OnDevice current(device);
        keep_memory(device);
        flic::exact::WeightTable table;
        for (int i = 0; i < count; ++i) table.add(names[i], data[i], sizes[i]);
        const flic::exact::Config sizes = flic::exact::make_config(config, config_fields);
        *out = new FlicCudaEngine{Engine(sizes, table), device, {}, {}};
    });
}

FLIC_API int flic_exact_cuda_destroy(FlicCudaEngine* handle) {
    return guarded([&] {
        if (!handle) return;
        const OnDevice current(handle->device);
        delete handle;
    });
}

FLIC_API int flic_exact_cuda_fingerprint(const FlicCudaEngine* handle, uint64_t* out) {
    return guarded([&] {
        require(handle && out, "null pointer");
        *out = handle->engine.fingerprint;
    });
}

FLIC_API int flic_exact_cuda_hyper(FlicCudaEngine* handle, const float* z_hat, int height,
                                   int width, float* means, float* scales, FlicStream stream) {
    return guarded(handle, stream, [&] {
        require(means && scales, "null pointer");
        require_z(z_hat, height, width, *handle);
        const Engine::HyperFeatures found = handle->engine.hyper(z_hat, height, width);
        const size_t values =
            16 * static_cast<size_t>(handle->engine.config.latent) * height * width;
        Cuda::download(means, found.means.get(), values);
        Cuda::download(scales, found.scales.get(), values);
        Cuda::wait();
    });
}

// flic_exact_cuda_hyper and flic_exact_cuda_begin in one, between which nothing leaves the device.
FLIC_API int flic_exact_cuda_open(FlicCudaEngine* handle, const float* z_hat, int height, int width,
                                  FlicStream stream, FlicCudaPicture** out) {
    return guarded(handle, stream, [&] {
        require(out, "null pointer");
        require_z(z_hat, height, width, *handle);
        const Engine::HyperFeatures found = handle->engine.hyper(z_hat, height, width);
        std::unique_ptr<Picture> picture = handle->take(4 * height, 4 * width);
        picture->begin(found.means, found.scales);
        *out = new FlicCudaPicture{std::move(picture), handle};
    });
}

FLIC_API int flic_exact_cuda_begin(FlicCudaEngine* handle, const float* means, const float* scales,
                                   int height, int width, FlicStream stream,
                                   FlicCudaPicture** out) {
    return guarded(handle, stream, [&] {
        require(means && scales && out, "null pointer");
        require(height > 0 && width > 0 && height <= kMaxSide && width <= kMaxSide,
                "a side is out of range");
        require(height % 8 == 0 && width % 8 == 0, "y's height and width must be multiples of 8");
        const size_t values = static_cast<size_t>(handle->engine.config.latent) * height * width;
        require_finite(means, values);
        require_finite(scales, values);
        std::unique_ptr<Picture> picture = handle->take(height, width);
        picture->begin(means, scales);
        *out = new FlicCudaPicture{std::move(picture), handle};
    });
}

FLIC_API int flic_exact_cuda_slice(FlicCudaPicture* picture, int i, const float* previous,
                                   float* means, float* scales, float* corrections,
                                   FlicStream stream) {
    return guarded(picture ? picture->engine : nullptr, stream, [&] {
        require(means && scales && corrections, "null pointer");
        picture->picture->slice(i, previous, means, scales, corrections);
    });
}

FLIC_API int flic_exact_cuda_end(FlicCudaPicture* picture) {
    if (!picture) return FLIC_OK;
    return guarded(picture->engine, cudaStreamPerThread, [&] {
        picture->engine->keep(std::move(picture->picture));
        delete picture;
    });
}
