// An array of floats, aligned to a cache line; large ones lie on large pages where the system has
// them.
#pragma once
#include <stdlib.h>
#include <string.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <memory>
#include <new>

namespace flic {

class Floats {
  public:
    enum class Fill { zero, none };
    Floats() = default;
    explicit Floats(size_t count, Fill fill = Fill::zero) : size_(count) {
        const size_t alignment = count * sizeof(float) >= 2 * kHugePage ? kHugePage : kCacheLine;
        const size_t bytes = (count * sizeof(float) / alignment + 1) * alignment;
        data_.reset(static_cast<float*>(aligned_alloc(alignment, bytes)));
        if (!data_) throw std::bad_alloc();
#if defined(__linux__)
        // Arrays of many megabytes are new with every picture: few large pages, not many small.
        if (alignment == kHugePage) madvise(data_.get(), bytes, MADV_HUGEPAGE);
#endif
        if (fill == Fill::zero) memset(data_.get(), 0, bytes);
    }
    float* get() const { return data_.get(); }
    size_t size() const { return size_; }
    float& operator[](size_t i) const { return data_[i]; }

  private:
    static constexpr size_t kCacheLine = 64, kHugePage = size_t{1} << 21;
    struct Free {
        void operator()(float* p) const { free(p); }
    };
    std::unique_ptr<float[], Free> data_;
    size_t size_ = 0;
};

}  // namespace flic
