#include "cpu/kernels.h"

#include "base/isa.h"
#include "cpu/frequency_modulation/frequency_modulation.h"
#include "cpu/positional_encoding/positional_encoding.h"
#include "cpu/product/gradient_rows.h"
#include "cpu/product/product.h"
#include "cpu/slice_attention/slice_attention.h"
#include "cpu/window_attention/window_attention.h"

namespace flic::cpu {
namespace {

#define FLIC_KERNELS(isa, bfloat16_isa) \
    {isa::products,                     \
     bfloat16_isa::bfloat16_products,   \
     isa::rows,                         \
     isa::gradient_rows,                \
     isa::window_attention,             \
     isa::slice_attention,              \
     isa::positional_encoding,          \
     isa::frequency_modulation}

constexpr Kernels kScalar = FLIC_KERNELS(scalar, scalar);
#if defined(FLIC_X86_64)
constexpr Kernels kAvx2 = FLIC_KERNELS(avx2, avx2);
constexpr Kernels kAvx512 = FLIC_KERNELS(avx512, avx512);
constexpr Kernels kAvx512Bfloat16 = FLIC_KERNELS(avx512, avx512bf16);
constexpr Kernels kAmx = FLIC_KERNELS(avx512, amx);
#endif

}  // namespace

const Kernels& kernels() {
#if defined(FLIC_X86_64)
    switch (isa()) {
        case Isa::avx512:
            switch (bfloat16_isa()) {
                case Bfloat16Isa::amx: return kAmx;
                case Bfloat16Isa::avx512_bf16: return kAvx512Bfloat16;
                case Bfloat16Isa::widened: return kAvx512;
            }
            break;
        case Isa::avx2: return kAvx2;
        case Isa::scalar: break;
    }
#endif
    return kScalar;
}

}  // namespace flic::cpu
