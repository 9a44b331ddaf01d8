#include "base/isa.h"

#if defined(FLIC_X86_64)
#include <cpuid.h>
#endif
#if defined(FLIC_X86_64) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <atomic>

#include "include/flic_kernels.h"

namespace flic {
namespace {

#if defined(FLIC_X86_64)
// clang's __builtin_cpu_supports does not know this one.
bool has_f16c() {
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C) != 0;
}
#endif

Isa detect() {
#if defined(FLIC_X86_64)
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

#if defined(FLIC_X86_64)
#if defined(__linux__)
// AMX needs the processor, and the kernel's leave to use its large registers.
bool has_amx() {
    constexpr unsigned kAmxBfloat16 = 1u << 22, kAmxTile = 1u << 24;
    constexpr long kRequestPermission = 0x1023, kTileData = 18;  // of arch_prctl
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & kAmxBfloat16) && (d & kAmxTile) &&
           syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}
#else
bool has_amx() { return false; }
#endif
#endif

Bfloat16Isa detect_bfloat16() {
#if defined(FLIC_X86_64)
    constexpr unsigned kAvx512Bfloat16 = 1u << 5;
    unsigned a, b, c, d;
    const bool pairs = best() == Isa::avx512 && __get_cpuid_count(7, 1, &a, &b, &c, &d) &&
                       (a & kAvx512Bfloat16) != 0;
    return !pairs ? Bfloat16Isa::widened : has_amx() ? Bfloat16Isa::amx : Bfloat16Isa::avx512_bf16;
#else
    return Bfloat16Isa::widened;
#endif
}

Bfloat16Isa best_bfloat16() {
    static const Bfloat16Isa found = detect_bfloat16();
    return found;
}

std::atomic<int> forced{-1};
std::atomic<int> forced_bfloat16{-1};

}  // namespace

Isa isa() {
    const int level = forced.load(std::memory_order_relaxed);
    return level < 0 ? best() : static_cast<Isa>(level);
}

Bfloat16Isa bfloat16_isa() {
    if (isa() != Isa::avx512) return Bfloat16Isa::widened;
    const int level = forced_bfloat16.load(std::memory_order_relaxed);
    return level < 0 ? best_bfloat16() : static_cast<Bfloat16Isa>(level);
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

FLIC_API int flic_bfloat16_isa_best() { return static_cast<int>(flic::best_bfloat16()); }

FLIC_API int flic_bfloat16_isa() { return static_cast<int>(flic::bfloat16_isa()); }

FLIC_API int flic_forced_bfloat16_isa() {
    return flic::forced_bfloat16.load(std::memory_order_relaxed);
}

FLIC_API int flic_set_bfloat16_isa(int level) {
    if (level < -1 || level > static_cast<int>(flic::Bfloat16Isa::amx)) return FLIC_BAD_ARGUMENT;
    if (level > static_cast<int>(flic::best_bfloat16())) return FLIC_NO_SUCH_ISA;
    flic::forced_bfloat16.store(level, std::memory_order_relaxed);
    return FLIC_OK;
}
