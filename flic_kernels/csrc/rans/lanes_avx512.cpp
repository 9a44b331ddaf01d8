#if defined(__AVX512F__)

#include "vector_avx512.h"
// V comes first.
#include "lanes_simd.h"

namespace flic {
namespace rans {
const LaneCoder kAvx512Lanes{encode, decode};
}  // namespace rans
}  // namespace flic

#endif
