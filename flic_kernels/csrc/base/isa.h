// The instruction set in use, chosen at run time.
//
// FLIC_SCALAR_ONLY leaves out all but plain C++, as on other processors than x86-64.
#pragma once

#if defined(__x86_64__) && !defined(FLIC_SCALAR_ONLY)
#define FLIC_X86_64
#endif

namespace flic {

enum class Isa : int { scalar = 0, avx2 = 1, avx512 = 2 };

// The one in use: the best the machine has, unless flic_set_isa forced a lesser one.
Isa isa();

// How products of bfloat16 are computed: by the same instructions as float32 ones after widening,
// or by those that multiply and add several at a time.
enum class Bfloat16Isa : int { widened = 0, avx512_bf16 = 1, amx = 2 };

// The one in use: the best that the machine and isa() have, unless flic_set_bfloat16_isa forced a
// lesser one.
Bfloat16Isa bfloat16_isa();

}  // namespace flic

// Declares what a _simd source defines in namespace FLIC_ISA: setup.py compiles it once for each of
// these.
#if defined(FLIC_X86_64)
#define FLIC_FOR_EACH_ISA(declaration) \
    namespace scalar {                 \
    declaration;                       \
    }                                  \
    namespace avx2 {                   \
    declaration;                       \
    }                                  \
    namespace avx512 {                 \
    declaration;                       \
    }
#else
#define FLIC_FOR_EACH_ISA(declaration) \
    namespace scalar {                 \
    declaration;                       \
    }
#endif
