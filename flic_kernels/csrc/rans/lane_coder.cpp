#include "rans/lane_coder.h"

#include "base/isa.h"

namespace flic {
namespace rans {

const LaneCoder& lane_coder() {
#if defined(FLIC_X86_64)
    switch (isa()) {
        case Isa::avx512: return avx512::lane_coder;
        case Isa::avx2: return avx2::lane_coder;
        case Isa::scalar: break;
    }
#endif
    return scalar::lane_coder;
}

}  // namespace rans
}  // namespace flic
