#include "symbol.h"

namespace flic {
namespace rans {
namespace {

int encode(EncodeLanes& lanes, const Span& span) {
    return with_types(span, [&](auto symbol, auto index) {
        for (int64_t j = span.count; j-- > 0;) {
            const int status = encode_at<decltype(symbol), decltype(index)>(lanes, span, j);
            if (status != FLIC_OK) return status;
        }
        return static_cast<int>(FLIC_OK);
    });
}

template <class Index>
int decode_all(DecodeLanes& lanes, const Span& span) {
    for (int64_t j = 0; j < span.count; ++j) {
        const int status = decode_at<Index>(lanes, span, j);
        if (status != FLIC_OK) return status;
    }
    return FLIC_OK;
}

int decode(DecodeLanes& lanes, const Span& span) {
    return span.index_bytes == 4 ? decode_all<int32_t>(lanes, span)
                                 : decode_all<uint16_t>(lanes, span);
}

}  // namespace

const LaneCoder kScalarLanes{encode, decode};

}  // namespace rans
}  // namespace flic
