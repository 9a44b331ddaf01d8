// How a call is to be done: its options, who is told of its progress, and what can end it.
#pragma once
#include <stdint.h>

#include "base/errors.h"
#include "base/stop.h"
#include "include/flic.h"

namespace flic::codec {

class Work {
  public:
    // From now on and as long as this lives, the caller's flag stops what this thread computes.
    explicit Work(const FlicOptions* options)
        : options_(options ? *options : FlicOptions{}), flag_(options_.stop) {
        if (!options_.threads) options_.threads = 1;
        require(options_.threads >= 1 && options_.threads <= 256,
                "the number of threads must be 1 to 256");
        require(options_.bfloat16 == 0 || options_.bfloat16 == 1, "bfloat16 must be 0 or 1");
        require(options_.memory_limit >= 0, "the memory limit is negative");
    }

    int threads() const { return options_.threads; }
    bool bfloat16() const { return options_.bfloat16 != 0; }

    // Tells that so many of the parts are done. Throws Error where the work is to end.
    void progress(int64_t done, int64_t parts) const {
        go_on();
        if (options_.progress && options_.progress(options_.user, static_cast<int32_t>(done),
                                                   static_cast<int32_t>(parts))) {
            throw Error(FLIC_STOPPED, "stopped");
        }
    }
    // After a computation that may have been left undone.
    void go_on() const {
        if (stop_watch().stopped()) throw Error(FLIC_STOPPED, "stopped");
    }
    // Before a computation that takes so many bytes at least, for pixels that are held at once.
    // less: what takes less.
    void need(int64_t bytes, int64_t height, int64_t width, const char* less = "tiles take") const;

  private:
    FlicOptions options_;
    StopFlag flag_;
};

}  // namespace flic::codec
