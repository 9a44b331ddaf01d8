// The float environment for callers that do their own arithmetic beside the library's.
#include "base/float_environment.h"

#include "include/flic_kernels.h"

using flic::FloatEnvironment;

// Round to nearest, no flush-to-zero.
FLIC_API uint64_t flic_default_float_environment() { return FloatEnvironment::kDefault; }

// Sets the calling thread's mode and returns the one before.
FLIC_API uint64_t flic_exchange_float_environment(uint64_t mode) {
    const uint64_t before = FloatEnvironment::get();
    FloatEnvironment::set(static_cast<FloatEnvironment::Register>(mode));
    return before;
}
