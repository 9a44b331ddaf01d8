#include "isa.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <atomic>

#include "status.h"

namespace flic {
namespace {

#if defined(__x86_64__)
// clang's __builtin_cpu_supports does not know this one.
bool has_f16c() {
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C) != 0;
}
#endif

Isa detect() {
#if defined(__x86_64__)
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                      __builtin_cpu_supports("bmi2") && has_f16c();
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                        __builtin_cpu_supports("avx512vl");
    return avx512 ? Isa::avx512 : avx2 ? Isa::avx2 : Isa::scalar;
#else
    return Isa::scalar;
#endif
}

Isa best() {
    static const Isa found = detect();
    return found;
}

std::atomic<int> forced{-1};

}  // namespace

Isa isa() {
    const int level = forced.load(std::memory_order_relaxed);
    return level < 0 ? best() : static_cast<Isa>(level);
}

}  // namespace flic

FLIC_API int flic_isa_best() { return static_cast<int>(flic::best()); }

FLIC_API int flic_isa() { return static_cast<int>(flic::isa()); }

// -1 where nothing is forced.
FLIC_API int flic_forced_isa() { return flic::forced.load(std::memory_order_relaxed); }

// level -1 gives the choice back to detection.
FLIC_API int flic_set_isa(int level) {
    if (level < -1 || level > static_cast<int>(flic::Isa::avx512)) return FLIC_BAD_ARGUMENT;
    if (level > static_cast<int>(flic::best())) return FLIC_NO_SUCH_ISA;
    flic::forced.store(level, std::memory_order_relaxed);
    return FLIC_OK;
}
