#include "base/stop.h"

#if (defined(__unix__) || defined(__APPLE__)) && !defined(FLIC_NO_THREADS)
#define FLIC_SIGNALS
#include <signal.h>
#include <unistd.h>

#include <chrono>
#endif

#include "include/flic_kernels.h"

namespace flic {

bool StopWatch::look() {
#if defined(FLIC_SIGNALS)
    using std::chrono::duration_cast;
    constexpr int64_t kBetween = 20;
    const auto since = std::chrono::steady_clock::now().time_since_epoch();
    const int64_t now = duration_cast<std::chrono::milliseconds>(since).count();
    int64_t next = next_look_;
    if (now < next || !next_look_.compare_exchange_strong(next, now + kBetween)) return stop_;
    unsigned char signal;
    while (read(descriptor_, &signal, 1) == 1) {
        if (signal == SIGINT || signal == SIGTERM) stop_ = true;
    }
#endif
    return stop_;
}

StopWatch& stop_watch() {
    static thread_local StopWatch watch;
    return watch;
}

}  // namespace flic

// From now on what the calling thread computes stops when SIGINT or SIGTERM, as a byte, is to be
// read from the descriptor, which does not block; -1: from none.
FLIC_API void flic_watch(int descriptor) { flic::stop_watch().begin(descriptor); }

// Whether anything was stopped since then.
FLIC_API int flic_stopped() { return flic::stop_watch().stopped(); }
