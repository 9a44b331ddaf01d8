// The exact engine on CUDA: device_engine.h's kernels as launches, behind the C interface of
// capi.cpp.
//
// Pointers are the host's. Every call runs on its thread's own stream and waits for the result.
#include <cuda_runtime.h>
#include <string.h>

#include <algorithm>
#include <mutex>

#include "../status.h"
#include "device_picture.h"
#include "float_environment.h"

namespace {

void check(cudaError_t error) {
    if (error == cudaSuccess) return;
    const int status = error == cudaErrorMemoryAllocation ? FLIC_OUT_OF_MEMORY : FLIC_CUDA_ERROR;
    throw flic::exact::Error(status, cudaGetErrorString(error));
}

constexpr int kThreads = 128;

template <class Kernel>
__global__ void __launch_bounds__(kThreads) run_kernel(const Kernel kernel, ptrdiff_t threads) {
    const ptrdiff_t i = static_cast<ptrdiff_t>(blockIdx.x) * kThreads + threadIdx.x;
    if (i < threads) kernel(i);
}

struct Cuda {
    static cudaStream_t stream() { return cudaStreamPerThread; }
    static float* allocate(size_t count) {
        float* p;
        check(cudaMallocAsync(reinterpret_cast<void**>(&p),
                              std::max<size_t>(count, 1) * sizeof(float), stream()));
        check(cudaMemsetAsync(p, 0, count * sizeof(float), stream()));
        return p;
    }
    static void release(float* p) { cudaFreeAsync(p, stream()); }
    static void upload(float* to, const float* from, size_t count) {
        check(cudaMemcpyAsync(to, from, count * sizeof(float), cudaMemcpyHostToDevice, stream()));
        check(cudaStreamSynchronize(stream()));
    }
    static void download(float* to, const float* from, size_t count) {
        check(cudaMemcpyAsync(to, from, count * sizeof(float), cudaMemcpyDeviceToHost, stream()));
        check(cudaStreamSynchronize(stream()));
    }
    template <class Kernel>
    static void launch(const Kernel& kernel) {
        const ptrdiff_t threads = kernel.threads(), blocks = (threads + kThreads - 1) / kThreads;
        if (blocks >= 1ll << 31)
            throw flic::exact::Error(FLIC_BAD_ARGUMENT, "the picture is too large");
        run_kernel<<<static_cast<unsigned>(blocks), kThreads, 0, stream()>>>(kernel, threads);
        check(cudaGetLastError());
    }
};

using Engine = flic::exact::device::DeviceEngine<Cuda>;

// Memory belongs to the device that was current at creation.
struct OnDevice {
    explicit OnDevice(int device) {
        check(cudaGetDevice(&before));
        check(cudaSetDevice(device));
    }
    ~OnDevice() { cudaSetDevice(before); }
    int before;
};

struct EngineHandle {
    Engine engine;
    int device;
    std::mutex mutex;
};

struct PictureHandle {
    flic::exact::device::DevicePicture<Cuda> picture;
    EngineHandle* engine;
};

thread_local char last_error[256] = "";

template <class Body>
int guarded(const Body& body) {
    const flic::exact::FloatEnvironment environment;
    try {
        last_error[0] = 0;
        body();
        return FLIC_OK;
    } catch (const flic::exact::Error& error) {
        strncpy(last_error, error.what(), sizeof last_error - 1);
        return error.status;
    } catch (const std::exception& error) {
        strncpy(last_error, error.what(), sizeof last_error - 1);
        return FLIC_OUT_OF_MEMORY;
    }
}

// With the engine's device current and its lock held.
template <class Body>
int guarded(EngineHandle* handle, const Body& body) {
    return guarded([&] {
        if (!handle) throw flic::exact::Error(FLIC_BAD_ARGUMENT, "null pointer");
        const std::lock_guard<std::mutex> lock(handle->mutex);
        const OnDevice current(handle->device);
        body();
    });
}

void require(bool condition, const char* what) {
    if (!condition) throw flic::exact::Error(FLIC_BAD_ARGUMENT, what);
}

void require_finite(const float* x, size_t count) {
    for (size_t i = 0; i < count; ++i) {
        if (!(x[i] - x[i] == 0))
            throw flic::exact::Error(FLIC_NOT_FINITE, "the input holds NaN or infinity");
    }
}

constexpr int kMaxSide = 1 << 14;  // of y

}  // namespace

FLIC_API const char* flic_exact_cuda_error() { return last_error; }

// As flic_exact_create, on CUDA device `device`; -1 takes the current one.
FLIC_API int flic_exact_cuda_create(const int32_t* config, int config_fields,
                                    const char* const* names, const float* const* data,
                                    const int64_t* sizes, int count, int device,
                                    EngineHandle** out) {
    return guarded([&] {
        require(names && data && sizes && out && count >= 0, "null pointer");
        if (device < 0) check(cudaGetDevice(&device));
        const OnDevice current(device);
        flic::exact::WeightTable table;
        for (int i = 0; i < count; ++i) table.add(names[i], data[i], sizes[i]);
        *out = new EngineHandle{
            Engine(flic::exact::make_config(config, config_fields), table), device, {}};
    });
}

FLIC_API int flic_exact_cuda_destroy(EngineHandle* handle) {
    return guarded([&] {
        if (!handle) return;
        const OnDevice current(handle->device);
        delete handle;
    });
}

FLIC_API int flic_exact_cuda_fingerprint(const EngineHandle* handle, uint64_t* out) {
    return guarded([&] {
        require(handle && out, "null pointer");
        *out = handle->engine.fingerprint;
    });
}

FLIC_API int flic_exact_cuda_hyper(EngineHandle* handle, const float* z_hat, int height, int width,
                                   float* means, float* scales) {
    return guarded(handle, [&] {
        require(z_hat && means && scales, "null pointer");
        require(height > 0 && width > 0 && height <= kMaxSide / 4 && width <= kMaxSide / 4,
                "a side is out of range");
        require(height % 2 == 0 && width % 2 == 0, "z's height and width must be even");
        require_finite(z_hat,
                       static_cast<size_t>(handle->engine.config.hyper_latent) * height * width);
        handle->engine.hyper(z_hat, height, width, means, scales);
    });
}

FLIC_API int flic_exact_cuda_begin(EngineHandle* handle, const float* means, const float* scales,
                                   int height, int width, PictureHandle** out) {
    return guarded(handle, [&] {
        require(means && scales && out, "null pointer");
        require(height > 0 && width > 0 && height <= kMaxSide && width <= kMaxSide,
                "a side is out of range");
        require(height % 8 == 0 && width % 8 == 0, "y's height and width must be multiples of 8");
        const size_t values = static_cast<size_t>(handle->engine.config.latent) * height * width;
        require_finite(means, values);
        require_finite(scales, values);
        *out = new PictureHandle{{handle->engine, means, scales, height, width}, handle};
    });
}

FLIC_API int flic_exact_cuda_slice(PictureHandle* picture, int i, const float* previous,
                                   float* means, float* scales, float* corrections) {
    return guarded(picture ? picture->engine : nullptr, [&] {
        require(means && scales && corrections, "null pointer");
        picture->picture.slice(i, previous, means, scales, corrections);
    });
}

FLIC_API int flic_exact_cuda_end(PictureHandle* picture) {
    if (!picture) return FLIC_OK;
    return guarded(picture->engine, [&] { delete picture; });
}
