// The CUDA runtime functions that cuda_engine.cu uses, on the host: it compiles as plain C++
// against this header, and its real calls run without a device.
//
// Stricter than a device, so that what works by luck fails: a stream does nothing until it is
// waited for; new memory is NaN; blocks and threads run backwards; page-locked memory is read and
// written late, other host memory at the call. The legacy default stream cannot be captured;
// waiting for a captured stream is an error. One host thread.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <functional>
#include <map>
#include <set>
#include <vector>

#define __global__
#define __launch_bounds__(threads)

enum cudaError_t { cudaSuccess, cudaErrorMemoryAllocation, cudaErrorStreamCaptureUnsupported };
enum cudaMemcpyKind { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost };
enum cudaStreamCaptureMode { cudaStreamCaptureModeRelaxed };
constexpr unsigned cudaStreamNonBlocking = 1;

struct dim3 {
    dim3(unsigned n = 1) : x(n) {}
    unsigned x;
};
inline dim3 blockIdx, threadIdx;

struct CudaGraph {
    std::vector<std::function<void()>> work;
};
using cudaGraph_t = CudaGraph*;
using cudaGraphExec_t = CudaGraph*;
using cudaStream_t = struct CUstream_st*;
#define cudaStreamPerThread (reinterpret_cast<cudaStream_t>(2))

struct cudaLaunchConfig_t {
    dim3 gridDim, blockDim;
    size_t dynamicSmemBytes;
    cudaStream_t stream;
    void* attrs;
    unsigned numAttrs;
};

namespace fake_cuda {

inline std::map<cudaStream_t, std::vector<std::function<void()>>> pending;
inline std::map<cudaStream_t, cudaGraph_t> captures;
inline std::set<char*> page_locked;
inline std::map<void*, size_t> sizes;  // of device memory
inline size_t used, limit = SIZE_MAX;
inline uint64_t kept_memory = 0;
inline size_t copied;  // bytes between host and device
inline int graphs_made, graphs_run;

inline cudaError_t queue(cudaStream_t stream, std::function<void()> work) {
    const auto capture = captures.find(stream);
    (capture == captures.end() ? pending[stream] : capture->second->work).push_back(work);
    return cudaSuccess;
}

inline void flush(cudaStream_t stream) {
    for (const auto& work : pending[stream]) work();
    pending.erase(stream);
}

inline bool is_page_locked(const void* p) { return page_locked.count((char*)p); }

}  // namespace fake_cuda

inline const char* cudaGetErrorString(cudaError_t) { return "refused by the fake CUDA runtime"; }
inline cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
inline cudaError_t cudaSetDevice(int) { return cudaSuccess; }

inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
    *stream = reinterpret_cast<cudaStream_t>(malloc(1));
    return cudaSuccess;
}
inline cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    free(stream);
    return cudaSuccess;
}
inline cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    if (fake_cuda::captures.count(stream)) return cudaErrorStreamCaptureUnsupported;
    fake_cuda::flush(stream);
    return cudaSuccess;
}

using cudaMemPool_t = uint64_t*;  // its release threshold
constexpr int cudaMemPoolAttrReleaseThreshold = 4;
inline cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* pool, int) {
    *pool = &fake_cuda::kept_memory;
    return cudaSuccess;
}
inline cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t pool, int, const void* value) {
    memcpy(pool, value, sizeof *pool);
    return cudaSuccess;
}

inline cudaError_t cudaMallocAsync(void** p, size_t bytes, cudaStream_t stream) {
    if (fake_cuda::captures.count(stream)) return cudaErrorStreamCaptureUnsupported;
    if (fake_cuda::used + bytes > fake_cuda::limit) return cudaErrorMemoryAllocation;
    *p = malloc(bytes);
    memset(*p, 0xff, bytes);
    fake_cuda::sizes[*p] = bytes;
    fake_cuda::used += bytes;
    return cudaSuccess;
}
inline cudaError_t cudaFreeAsync(void* p, cudaStream_t stream) {
    fake_cuda::used -= fake_cuda::sizes[p];
    return fake_cuda::queue(stream, [p] { free(p); });
}
inline cudaError_t cudaMallocHost(void** p, size_t bytes) {
    *p = malloc(bytes);
    fake_cuda::page_locked.insert(static_cast<char*>(*p));
    return cudaSuccess;
}
inline cudaError_t cudaFreeHost(void* p) {
    fake_cuda::page_locked.erase(static_cast<char*>(p));
    free(p);
    return cudaSuccess;
}
inline cudaError_t cudaMemsetAsync(void* p, int value, size_t bytes, cudaStream_t stream) {
    return fake_cuda::queue(stream, [=] { memset(p, value, bytes); });
}
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                                   cudaStream_t stream) {
    const bool in = kind == cudaMemcpyHostToDevice;
    fake_cuda::copied += bytes;
    if (fake_cuda::is_page_locked(in ? from : to))
        return fake_cuda::queue(stream, [=] { memcpy(to, from, bytes); });
    if (fake_cuda::captures.count(stream)) return cudaErrorStreamCaptureUnsupported;
    if (in) {
        const char* const bytes_in = static_cast<const char*>(from);
        const std::vector<char> copy(bytes_in, bytes_in + bytes);
        return fake_cuda::queue(stream, [=] { memcpy(to, copy.data(), bytes); });
    }
    fake_cuda::flush(stream);
    memcpy(to, from, bytes);
    return cudaSuccess;
}

template <class... Expected, class... Given>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Expected...),
                               Given... arguments) {
    const unsigned blocks = config->gridDim.x, threads = config->blockDim.x;
    return fake_cuda::queue(config->stream, [=] {
        for (blockIdx.x = blocks; blockIdx.x-- > 0;) {
            for (threadIdx.x = threads; threadIdx.x-- > 0;) kernel(arguments...);
        }
    });
}

inline cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
    if (!stream) return cudaErrorStreamCaptureUnsupported;
    fake_cuda::captures[stream] = new CudaGraph;
    return cudaSuccess;
}
inline cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
    const auto capture = fake_cuda::captures.find(stream);
    if (capture == fake_cuda::captures.end()) return cudaErrorStreamCaptureUnsupported;
    *graph = capture->second;
    fake_cuda::captures.erase(capture);
    return cudaSuccess;
}
inline cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* executable, cudaGraph_t graph,
                                                 unsigned) {
    ++fake_cuda::graphs_made;
    *executable = new CudaGraph(*graph);
    return cudaSuccess;
}
inline cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    delete graph;
    return cudaSuccess;
}
inline cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
    delete executable;
    return cudaSuccess;
}
inline cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
    ++fake_cuda::graphs_run;
    return fake_cuda::queue(stream, [executable] {
        for (const auto& work : executable->work) work();
    });
}

// For the tests: graphs made or run so far; bytes of device memory in use, and their limit (0 is
// none).
#define FAKE_API extern "C" __attribute__((visibility("default")))

FAKE_API int fake_cuda_graphs(int run) {
    return run ? fake_cuda::graphs_run : fake_cuda::graphs_made;
}
FAKE_API int64_t fake_cuda_used() { return static_cast<int64_t>(fake_cuda::used); }
FAKE_API int64_t fake_cuda_copied() { return static_cast<int64_t>(fake_cuda::copied); }
FAKE_API int fake_cuda_keeps_memory() { return fake_cuda::kept_memory == UINT64_MAX; }
FAKE_API void fake_cuda_limit(int64_t bytes) { fake_cuda::limit = bytes ? bytes : SIZE_MAX; }
