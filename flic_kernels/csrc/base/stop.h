// Work that can be stopped from outside, between the items of its jobs.
#pragma once
#include <stdint.h>

#include <atomic>

namespace flic {

// Of a thread that calls into the library. It is told by signal numbers that arrive in a file
// descriptor, as CPython writes them (signal.set_wakeup_fd): its handlers run when the call is
// over, and here it is over soon. What a call that was stopped has computed is worthless.
class StopWatch {
  public:
    // Whether what this thread has begun is to stop; asked by any thread.
    bool asked() {
        if (stop_.load(std::memory_order_relaxed)) return true;
        return descriptor_ >= 0 && look();
    }
    void begin(int descriptor) {
        descriptor_ = descriptor;
        stop_ = false;
        next_look_ = 0;
    }
    bool stopped() const { return stop_; }

  private:
    bool look();  // every few milliseconds

    int descriptor_ = -1;  // non-blocking
    std::atomic<bool> stop_{false};
    std::atomic<int64_t> next_look_{0};
};

// The calling thread's.
StopWatch& stop_watch();

}  // namespace flic
