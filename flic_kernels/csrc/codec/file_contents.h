// A whole file's bytes: mapped on POSIX systems, read elsewhere (and with FLIC_NO_MMAP).
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <memory>

namespace flic::codec {

class FileContents {
  public:
    // Throws Error with the system's reason. A file that is mapped must not be shortened meanwhile.
    explicit FileContents(const char* path);

    const uint8_t* data() const { return data_.get(); }
    size_t size() const { return size_; }

  private:
    struct Release {
        size_t size;
        void operator()(const uint8_t* data) const;
    };

    size_t size_ = 0;
    std::unique_ptr<const uint8_t[], Release> data_;
};

}  // namespace flic::codec
