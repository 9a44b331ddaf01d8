// The instruction set in use, chosen at run time.
#pragma once

namespace flic {

enum class Isa : int { scalar = 0, avx2 = 1, avx512 = 2 };

// The one in use: the best the machine has, unless flic_set_isa forced a lesser one.
Isa isa();

}  // namespace flic
