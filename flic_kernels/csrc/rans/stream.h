// The parts of a stream that its coders share: the split of a push over groups, and what is kept of
// a group between pushes. docs/rans.md describes the format. Compiles for the host and for CUDA.
#pragma once

#include <cstdint>

#include "include/flic_kernels.h"
#include "rans/core.h"

namespace flic {
namespace rans {

// The encoder's choices; none is part of the format. Lanes are halved while a group's payload is
// below this many bytes a lane; groups are doubled while each keeps this many symbols; the tail
// takes its symbols from this many last positions.
constexpr int64_t kPayloadPerLane = 128;
constexpr int64_t kSymbolsPerGroup = int64_t{1} << 20;
constexpr int64_t kTailReach = int64_t{1} << 14;

// The part of a push of `count` symbols that group `group` of `groups` codes.
struct Part {
    int64_t begin, end;
};

FLIC_HD Part group_part(int64_t count, int group, int groups) {
    int64_t size = (count + groups - 1) / groups;
    size = (size + kMaxLanes - 1) / kMaxLanes * kMaxLanes;
    const int64_t begin = group * size;
    const int64_t end = begin + size;
    return {begin < count ? begin : count, end < count ? end : count};
}

using GroupRecord = FlicGroupRecord;
static_assert(sizeof GroupRecord::states == kMaxLanes * sizeof(uint32_t), "as the C interface");

}  // namespace rans
}  // namespace flic
