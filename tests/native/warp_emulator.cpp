// The GPU coder's functions on a CPU: the 32 threads of a warp are fibers that take turns and meet
// at every ballot and shuffle. Same interface as rans.cu, host pointers in place of device ones.

#include <ucontext.h>

#include <functional>
#include <memory>

#include "rans/warp_encode.h"

namespace {

using flic::rans::GaussianGrid;
using flic::rans::GroupRecord;
using flic::rans::WarpPush;

constexpr int kThreads = 32;
constexpr size_t kStack = 128 * 1024;

class Fibers {
  public:
    void run(const std::function<void()>& body) {
        body_ = &body;
        for (int i = 0; i < kThreads; ++i) {
            done_[i] = false;
            if (!stacks_[i]) stacks_[i] = std::make_unique<char[]>(kStack);
            getcontext(&threads_[i]);
            threads_[i].uc_stack.ss_sp = stacks_[i].get();
            threads_[i].uc_stack.ss_size = kStack;
            threads_[i].uc_link = &scheduler_;
            makecontext(&threads_[i], &Fibers::enter, 0);
        }
        bool left = true;
        while (left) {  // one turn of the loop lets every thread reach its next meeting
            left = false;
            for (current_ = 0; current_ < kThreads; ++current_) {
                if (done_[current_]) continue;
                swapcontext(&scheduler_, &threads_[current_]);
                left |= !done_[current_];
            }
        }
    }

    int lane() const { return current_; }

    uint32_t ballot(bool condition) {
        values_[current_] = condition;
        meet();
        uint32_t bits = 0;
        for (int i = 0; i < kThreads; ++i) bits |= (values_[i] & 1u) << i;
        meet();
        return bits;
    }

    uint32_t shuffle(uint32_t value, int from) {
        values_[current_] = value;
        meet();
        const uint32_t result = values_[from];
        meet();
        return result;
    }

  private:
    static void enter();
    void meet() { swapcontext(&threads_[current_], &scheduler_); }

    ucontext_t scheduler_, threads_[kThreads];
    std::unique_ptr<char[]> stacks_[kThreads];
    bool done_[kThreads];
    uint32_t values_[kThreads];
    int current_ = 0;
    const std::function<void()>* body_ = nullptr;
};

Fibers fibers;

void Fibers::enter() {
    (*fibers.body_)();
    fibers.done_[fibers.current_] = true;
}

struct EmulatedWarp {
    static int lane() { return fibers.lane(); }
    static uint32_t ballot(bool condition) { return fibers.ballot(condition); }
    static uint32_t shuffle(uint32_t value, int from) { return fibers.shuffle(value, from); }
    static void sync() { fibers.ballot(true); }
};

}  // namespace

FLIC_API int flic_rans_cuda_decode(GroupRecord* records, int64_t count, const WarpPush* push,
                                   const uint8_t* data, int32_t* out, FlicStream) {
    for (int64_t i = 0; i < count; ++i) {
        fibers.run([&] { flic::rans::warp_decode<EmulatedWarp>(records[i], *push, data, out); });
    }
    return FLIC_OK;
}

FLIC_API int flic_rans_cuda_close(GroupRecord* records, int64_t count, FlicStream) {
    for (int64_t i = 0; i < count; ++i) {
        fibers.run([&] { flic::rans::warp_close<EmulatedWarp>(records[i]); });
    }
    return FLIC_OK;
}

FLIC_API int flic_rans_cuda_encode(GroupRecord* records, int64_t count, const WarpPush* pushes,
                                   int push_count, uint8_t* buffer, int choose, FlicStream) {
    for (int64_t i = 0; i < count; ++i) {
        fibers.run([&] {
            flic::rans::warp_encode<EmulatedWarp>(records[i], pushes, push_count, buffer,
                                                  choose != 0);
        });
    }
    return FLIC_OK;
}

FLIC_API int flic_rans_cuda_gaussian_indexes(const float* means, const float* scales, int64_t count,
                                             const GaussianGrid* grid, int32_t* indexes,
                                             int32_t* centers, FlicStream) {
    for (int64_t i = 0; i < count; ++i) {
        indexes[i] = flic::rans::warp_gaussian_index(*grid, means[i], scales[i], &centers[i]);
    }
    return FLIC_OK;
}
