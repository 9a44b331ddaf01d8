// Memory, copies, launches and graphs on CUDA, queued on this thread's current stream. Nothing here
// waits but wait().
#pragma once
#include <cuda_runtime.h>

#include <algorithm>
#include <utility>

#include "base/errors.h"
#include "include/flic_kernels.h"

namespace {

inline void check(cudaError_t error) {
    if (error == cudaSuccess) return;
    const int status = error == cudaErrorMemoryAllocation ? FLIC_OUT_OF_MEMORY : FLIC_CUDA_ERROR;
    throw flic::Error(status, cudaGetErrorString(error));
}

constexpr int kThreads = 128;

template <class Kernel>
__global__ void __launch_bounds__(kThreads) run_kernel(const Kernel kernel, ptrdiff_t threads) {
    const ptrdiff_t i = static_cast<ptrdiff_t>(blockIdx.x) * kThreads + threadIdx.x;
    if (i < threads) kernel(i);
}

// The stream of what this thread queues.
thread_local cudaStream_t current_stream = cudaStreamPerThread;

struct OnStream {
    explicit OnStream(cudaStream_t stream) : before(std::exchange(current_stream, stream)) {}
    ~OnStream() { current_stream = before; }
    const cudaStream_t before;
};

struct Cuda {
    static float* allocate(size_t count) {
        float* p;
        count = std::max<size_t>(count, 1);
        check(cudaMallocAsync(reinterpret_cast<void**>(&p), count * sizeof(float), current_stream));
        check(cudaMemsetAsync(p, 0, count * sizeof(float), current_stream));
        return p;
    }
    static void release(float* p) { cudaFreeAsync(p, current_stream); }

    // Page-locked, so that a graph can copy from and to it.
    static float* allocate_host(size_t count) {
        float* p;
        check(cudaMallocHost(reinterpret_cast<void**>(&p), count * sizeof(float)));
        return p;
    }
    static void release_host(float* p) { cudaFreeHost(p); }

    static void upload(float* to, const float* from, size_t count) {
        check(cudaMemcpyAsync(to, from, count * sizeof(float), cudaMemcpyHostToDevice,
                              current_stream));
    }
    static void download(float* to, const float* from, size_t count) {
        check(cudaMemcpyAsync(to, from, count * sizeof(float), cudaMemcpyDeviceToHost,
                              current_stream));
    }
    static void clear(float* p, size_t count) {
        check(cudaMemsetAsync(p, 0, count * sizeof(float), current_stream));
    }
    static void wait() { check(cudaStreamSynchronize(current_stream)); }

    template <class Kernel>
    static void launch(const Kernel& kernel) {
        const ptrdiff_t threads = kernel.threads(), blocks = (threads + kThreads - 1) / kThreads;
        if (blocks >= 1ll << 31) throw flic::Error(FLIC_BAD_ARGUMENT, "the picture is too large");
        cudaLaunchConfig_t config = {};
        config.gridDim = dim3(static_cast<unsigned>(blocks));
        config.blockDim = dim3(kThreads);
        config.stream = current_stream;
        check(cudaLaunchKernelEx(&config, run_kernel<Kernel>, kernel, threads));
    }

    // What a function queues, captured in a CUDA graph on the first run and replayed on the current
    // stream by every run.
    class Graph {
      public:
        Graph() = default;
        Graph(const Graph&) = delete;
        Graph& operator=(const Graph&) = delete;
        ~Graph() {
            if (executable_) cudaGraphExecDestroy(executable_);
        }
        template <class Body>
        void run(const Body& body) {
            if (!executable_) executable_ = instantiate(capture(body));
            check(cudaGraphLaunch(executable_, current_stream));
        }

      private:
        // On a stream of its own: the legacy default stream, torch's usual one, cannot be captured.
        template <class Body>
        static cudaGraph_t capture(const Body& body) {
            cudaStream_t stream;
            check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
            cudaGraph_t graph = nullptr;
            try {
                check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed));
                const OnStream capturing(stream);
                body();
            } catch (...) {
                cudaStreamEndCapture(stream, &graph);
                if (graph) cudaGraphDestroy(graph);
                cudaStreamDestroy(stream);
                throw;
            }
            const cudaError_t error = cudaStreamEndCapture(stream, &graph);
            cudaStreamDestroy(stream);
            check(error);
            return graph;
        }
        static cudaGraphExec_t instantiate(cudaGraph_t graph) {
            cudaGraphExec_t executable = nullptr;
            const cudaError_t error = cudaGraphInstantiateWithFlags(&executable, graph, 0);
            cudaGraphDestroy(graph);
            check(error);
            return executable;
        }
        cudaGraphExec_t executable_ = nullptr;
    };
};

}  // namespace
