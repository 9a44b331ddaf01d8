#if defined(__AVX2__)

#include "vector_avx2.h"
// V comes first.
#include "lanes_simd.h"

namespace flic {
namespace rans {
const LaneCoder kAvx2Lanes{encode, decode};
}  // namespace rans
}  // namespace flic

#endif
