// The parts of a stream that encoder and decoder share. docs/rans.md describes the format.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core.h"

namespace flic {
namespace rans {

// The part of a push of `count` symbols that group `group` of `groups` codes.
struct Part {
    int64_t begin, end;
};

inline Part group_part(int64_t count, int group, int groups) {
    int64_t size = (count + groups - 1) / groups;
    size = (size + kMaxLanes - 1) / kMaxLanes * kMaxLanes;
    return {std::min(group * size, count), std::min((group + 1) * size, count)};
}

// Bytes of the lane states: four bits of length a lane, then each state without its leading one.
inline int64_t state_bytes(int lanes, int64_t bits) { return (4 * lanes + bits + 7) / 8; }

}  // namespace rans
}  // namespace flic
