// Large pages for results of many megabytes.
#pragma once
#include <stddef.h>
#include <stdint.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace flic {

// A large tensor's memory is new with every call: a page fault for each 4 KiB of it costs more than
// writing it. Where the system does not know the request, nothing happens.
inline void ask_for_large_pages(void* data, size_t bytes) {
#if defined(__linux__)
    constexpr uintptr_t kPage = uintptr_t{1} << 21;
    const uintptr_t begin = (reinterpret_cast<uintptr_t>(data) + kPage - 1) / kPage * kPage;
    const uintptr_t end = (reinterpret_cast<uintptr_t>(data) + bytes) / kPage * kPage;
    if (end > begin) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#else
    static_cast<void>(data);
    static_cast<void>(bytes);
#endif
}

}  // namespace flic
