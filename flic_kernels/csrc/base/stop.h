// Work that can be stopped from outside, between the items of its jobs.
#pragma once
#include <stdint.h>

#include <atomic>

namespace flic {

// Of a thread that calls into the library. It is told by signal numbers that arrive in a file
// descriptor, as CPython writes them (signal.set_wakeup_fd): its handlers run when the call is
// over, and here it is over soon. Or a number in the caller's memory becomes other than 0. What a
// call that was stopped has computed is worthless.
class StopWatch {
  public:
    // Whether what this thread has begun is to stop; asked by any thread.
    bool asked() {
        if (stop_.load(std::memory_order_relaxed)) return true;
        if (flag_ && __atomic_load_n(flag_, __ATOMIC_RELAXED)) return stop_ = true;
        return descriptor_ >= 0 && look();
    }
    void begin(int descriptor) {
        descriptor_ = descriptor;
        stop_ = false;
        next_look_ = 0;
    }
    bool stopped() const { return stop_; }

  private:
    friend class StopFlag;
    bool look();  // every few milliseconds

    int descriptor_ = -1;  // non-blocking
    const int32_t* flag_ = nullptr;
    std::atomic<bool> stop_{false};
    std::atomic<int64_t> next_look_{0};
};

// The calling thread's.
StopWatch& stop_watch();

// What the calling thread begins while this lives stops when the flag (null: none) is set.
class StopFlag {
  public:
    explicit StopFlag(const int32_t* flag) : watch_(stop_watch()), before_(watch_.flag_) {
        set(flag);
    }
    ~StopFlag() { set(before_); }
    StopFlag(const StopFlag&) = delete;
    StopFlag& operator=(const StopFlag&) = delete;

  private:
    void set(const int32_t* flag) {
        if (watch_.descriptor_ < 0) watch_.stop_ = false;
        watch_.flag_ = flag;
    }

    StopWatch& watch_;
    const int32_t* const before_;  // of a call whose progress is told to what calls again
};

}  // namespace flic
