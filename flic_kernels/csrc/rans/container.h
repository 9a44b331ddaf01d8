// Reading and writing a stream's fixed parts: header, lane states, sections. Host only.
#pragma once

#include <vector>

#include "rans/stream.h"

struct FlicBytes final : std::vector<uint8_t> {};

namespace flic {
namespace rans {

using Bytes = FlicBytes;

// One group's bytes; its words and escapes lie in `buffer`.
Bytes group_bytes(const GroupRecord& record, const uint8_t* buffer);

// Appends the stream of the groups.
void append_stream(Bytes& out, const std::vector<Bytes>& groups, int lanes, int64_t pushes);

// Fills one record for each group from a stream; returns a status. Offsets are those into `data`.
int open_stream(const uint8_t* data, int64_t size, std::vector<GroupRecord>& records);

}  // namespace rans
}  // namespace flic
