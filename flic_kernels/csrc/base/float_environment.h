// Round to nearest, no flush-to-zero: set for a scope, the caller's setting restored after it.
//
// torch.set_flush_denormal, crtfastmath and other libraries change the mode of the threads they run
// in.
#pragma once
#include <stdint.h>

#if defined(__x86_64__) || defined(__SSE2__)
#include <xmmintrin.h>
#endif

namespace flic {

class FloatEnvironment {
  public:
    FloatEnvironment() : saved_(get()) { set(kDefault); }
    ~FloatEnvironment() { set(saved_); }
    FloatEnvironment(const FloatEnvironment&) = delete;
    FloatEnvironment& operator=(const FloatEnvironment&) = delete;

    // The calling thread's mode, and the one that every computation here wants.
#if defined(__x86_64__) || defined(__SSE2__)
    using Register = unsigned int;
    static constexpr Register kDefault = 0x1F80;  // all exceptions masked
    static Register get() { return _mm_getcsr(); }
    static void set(Register value) { _mm_setcsr(value); }
#elif defined(__aarch64__)
    using Register = uint64_t;
    static constexpr Register kDefault = 0;
    static Register get() {
        Register value;
        __asm__ volatile("mrs %0, fpcr" : "=r"(value));
        return value;
    }
    static void set(Register value) { __asm__ volatile("msr fpcr, %0" : : "r"(value) : "memory"); }
#else
    using Register = int;
    static constexpr Register kDefault = 0;
    static Register get() { return kDefault; }
    static void set(Register) {}
#endif

  private:
    Register saved_;
};

}  // namespace flic
