#include "lanes.h"

#include "../isa.h"

namespace flic {
namespace rans {

const LaneCoder& lane_coder() {
#if defined(__x86_64__)
    switch (isa()) {
        case Isa::avx512: return kAvx512Lanes;
        case Isa::avx2: return kAvx2Lanes;
        case Isa::scalar: break;
    }
#endif
    return kScalarLanes;
}

}  // namespace rans
}  // namespace flic
