// The GPU coder's kernels and their launchers: one warp a group, four warps a block. The arithmetic
// and the control flow are warp.h, warp_encode.h and core.h, which the CPU tests run too.

#include <cuda_runtime.h>

#include "base/abi.h"
#include "rans/warp_encode.h"

namespace flic {
namespace rans {
namespace {

struct CudaWarp {
    static __device__ __forceinline__ int lane() { return static_cast<int>(threadIdx.x & 31); }
    static __device__ __forceinline__ uint32_t ballot(bool condition) {
        return __ballot_sync(0xffffffffu, condition);
    }
    static __device__ __forceinline__ uint32_t shuffle(uint32_t value, int from) {
        return __shfl_sync(0xffffffffu, value, from);
    }
    static __device__ __forceinline__ void sync() { __syncwarp(); }
};

constexpr int kBlock = 128;

__device__ __forceinline__ int64_t warp_number() {
    return (static_cast<int64_t>(blockIdx.x) * kBlock + threadIdx.x) / kWarp;
}

__global__ void __launch_bounds__(kBlock)
    decode_kernel(GroupRecord* records, int64_t count, WarpPush push, const uint8_t* data,
                  int32_t* out) {
    const int64_t number = warp_number();
    if (number < count) warp_decode<CudaWarp>(records[number], push, data, out);
}

__global__ void __launch_bounds__(kBlock) close_kernel(GroupRecord* records, int64_t count) {
    const int64_t number = warp_number();
    if (number < count) warp_close<CudaWarp>(records[number]);
}

__global__ void __launch_bounds__(kBlock)
    encode_kernel(GroupRecord* records, int64_t count, const WarpPush* pushes, int push_count,
                  uint8_t* buffer, bool choose) {
    const int64_t number = warp_number();
    if (number < count) {
        warp_encode<CudaWarp>(records[number], pushes, push_count, buffer, choose);
    }
}

__global__ void __launch_bounds__(kBlock)
    gaussian_kernel(const float* means, const float* scales, int64_t count, GaussianGrid grid,
                    int32_t* indexes, int32_t* centers) {
    const int64_t i = static_cast<int64_t>(blockIdx.x) * kBlock + threadIdx.x;
    if (i >= count) return;
    indexes[i] = warp_gaussian_index(grid, means[i], scales[i], &centers[i]);
}

unsigned blocks(int64_t threads) { return static_cast<unsigned>((threads + kBlock - 1) / kBlock); }

int launched() { return cudaGetLastError() == cudaSuccess ? FLIC_OK : FLIC_CUDA_ERROR; }

}  // namespace
}  // namespace rans
}  // namespace flic

using namespace flic::rans;

// Pointers are device pointers but for `push`, which is copied; nothing here waits for the device.
FLIC_API int flic_rans_cuda_decode(FlicGroupRecord* records, int64_t count,
                                   const FlicWarpPush* push, const uint8_t* data, int32_t* out,
                                   FlicStream stream) {
    if (!records || count < 1 || !push || !data) return FLIC_BAD_ARGUMENT;
    decode_kernel<<<blocks(count * kWarp), kBlock, 0, stream>>>(records, count, *push, data, out);
    return launched();
}

FLIC_API int flic_rans_cuda_close(FlicGroupRecord* records, int64_t count, FlicStream stream) {
    if (!records || count < 1) return FLIC_BAD_ARGUMENT;
    close_kernel<<<blocks(count * kWarp), kBlock, 0, stream>>>(records, count);
    return launched();
}

FLIC_API int flic_rans_cuda_encode(FlicGroupRecord* records, int64_t count,
                                   const FlicWarpPush* pushes, int push_count, uint8_t* buffer,
                                   int choose, FlicStream stream) {
    if (!records || count < 1 || push_count < 0 || !buffer) return FLIC_BAD_ARGUMENT;
    encode_kernel<<<blocks(count * kWarp), kBlock, 0, stream>>>(records, count, pushes, push_count,
                                                                buffer, choose != 0);
    return launched();
}

// Where a mean or scale is NaN or infinite, the index becomes -1, which the coder refuses.
FLIC_API int flic_rans_cuda_gaussian_indexes(const float* means, const float* scales, int64_t count,
                                             const FlicGaussianGrid* grid, int32_t* indexes,
                                             int32_t* centers, FlicStream stream) {
    if (count < 0 || !grid) return FLIC_BAD_ARGUMENT;
    if (count == 0) return FLIC_OK;
    gaussian_kernel<<<blocks(count), kBlock, 0, stream>>>(means, scales, count, *grid, indexes,
                                                          centers);
    return launched();
}
