#include "codec/work.h"

#include <stdio.h>

namespace flic::codec {

void Work::need(int64_t bytes, int64_t height, int64_t width, const char* less) const {
    if (options_.memory_limit <= 0 || bytes <= options_.memory_limit) return;
    constexpr double kGiB = 1 << 30;
    char text[200];
    snprintf(text, sizeof text,
             "%lldx%lld pixels at once take at least %.1f GiB of memory with this model, and %.1f "
             "GiB are available: %s less",
             static_cast<long long>(width), static_cast<long long>(height),
             static_cast<double>(bytes) / kGiB, static_cast<double>(options_.memory_limit) / kGiB,
             less);
    throw Error(FLIC_MEMORY_LIMIT, text);
}

}  // namespace flic::codec
