// The lanes of one group: the inner loops of the coder, one implementation an instruction set.
#pragma once

#include <cstdint>

#include "base/isa.h"
#include "rans/tables.h"

namespace flic {
namespace rans {

// A run of symbols that share their tables. Position j goes through lane j mod lanes. From `skip`
// on, symbols with busy tables are left out: the tail codes them.
struct Span {
    const void* symbols;  // encoder only: int8, int16 or int32
    const void* indexes;  // int32 or uint16
    int32_t* out;         // decoder only
    int64_t count;
    int64_t skip;
    TablesView tables;
    int symbol_bytes;
    int index_bytes;
};

// Words and escapes are written downwards, in buffers that hold the worst case.
struct EncodeLanes {
    uint32_t states[kMaxLanes];
    int lanes;
    uint8_t* words;
    uint8_t* escapes;
};

// Words and escapes are read upwards, and never past their ends.
struct DecodeLanes {
    uint32_t states[kMaxLanes];
    int lanes;
    const uint8_t* words;
    const uint8_t* words_end;
    const uint8_t* escapes;
    const uint8_t* escapes_end;
};

struct LaneCoder {
    int (*encode)(EncodeLanes& lanes, const Span& span);  // from the last position to the first
    int (*decode)(DecodeLanes& lanes, const Span& span);
};

FLIC_FOR_EACH_ISA(extern const LaneCoder lane_coder)

// The implementation for the instruction set in use.
const LaneCoder& lane_coder();

}  // namespace rans
}  // namespace flic
