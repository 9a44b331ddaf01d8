// Activations on sixteen lanes, for the instruction set of the including file. They need not give
// the same bits everywhere, so quotients are quick ones.
#pragma once
#include "../exact/functions.h"
#include "vector.h"

namespace {

// The exact engine's rational approximation, with a quick reciprocal. Absolute error at most
// 3e-7 |x|.
FLIC_INLINE Lanes quick_gelu(Lanes x) {
    const float numerator[6] = {0x1.988450p-2f,  0x1.116288p-5f,  0x1.30cc4cp-8f,
                                0x1.589b4ep-13f, 0x1.aad054p-18f, 0x1.91c83ep-26f};
    const float denominator[6] = {
        1.0f, 0x1.00534cp-2f, 0x1.d0f4bcp-6f, 0x1.e751fap-10f, 0x1.2faafap-14f, 0x1.4693a2p-20f};
    const Lanes c =
        Lanes::min(Lanes::max(x, Lanes::set(-0x1.59999ap+2f)), Lanes::set(0x1.59999ap+2f));
    const Lanes square = Lanes::mul(c, c);
    const Lanes h = Lanes::mul(Lanes::mul(c, polynomial(square, numerator)),
                               reciprocal(polynomial(square, denominator)));
    return Lanes::fma(x, h, Lanes::mul(x, Lanes::set(0.5f)));
}

}  // namespace
