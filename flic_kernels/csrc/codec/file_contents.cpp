#include "codec/file_contents.h"

#include <errno.h>
#include <string.h>

#include <string>

#include "base/errors.h"

#if (defined(__unix__) || defined(__APPLE__)) && !defined(FLIC_NO_MMAP)
#define FLIC_MMAP
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#else
#include <stdio.h>
#include <stdlib.h>

#include <new>
#endif

namespace flic::codec {
namespace {

[[noreturn]] void refuse(const char* path, int error) {
    throw Error(FLIC_BAD_ARGUMENT, std::string(path) + ": " + strerror(error));
}

}  // namespace

#if defined(FLIC_MMAP)

namespace {

struct Descriptor {
    // A pipe would wait for a writer.
    explicit Descriptor(const char* path) : number(open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {}
    ~Descriptor() {
        if (number >= 0) close(number);
    }
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    const int number;
};

}  // namespace

void FileContents::Release::operator()(const uint8_t* data) const {
    munmap(const_cast<uint8_t*>(data), size);
}

FileContents::FileContents(const char* path) {
    const Descriptor file(path);
    struct stat status;
    if (file.number < 0 || fstat(file.number, &status) != 0) refuse(path, errno);
    if (S_ISDIR(status.st_mode)) refuse(path, EISDIR);
    if (status.st_size == 0) return;  // which cannot be mapped
    size_ = static_cast<size_t>(status.st_size);
    void* const mapped = mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.number, 0);
    if (mapped == MAP_FAILED) refuse(path, errno);
    data_ = {static_cast<const uint8_t*>(mapped), Release{size_}};
}

#else

void FileContents::Release::operator()(const uint8_t* data) const {
    free(const_cast<uint8_t*>(data));
}

FileContents::FileContents(const char* path) {
    const std::unique_ptr<FILE, int (*)(FILE*)> file(fopen(path, "rb"), fclose);
    if (!file) refuse(path, errno);
    // The size is not asked for: what is no regular file has none.
    for (size_t capacity = size_t{1} << 20;; capacity *= 2) {
        void* const larger = realloc(const_cast<uint8_t*>(data_.get()), capacity);
        if (!larger) throw std::bad_alloc();
        data_.release();
        data_.reset(static_cast<const uint8_t*>(larger));
        uint8_t* const end = static_cast<uint8_t*>(larger) + size_;
        size_ += fread(end, 1, capacity - size_, file.get());
        if (ferror(file.get())) refuse(path, errno);
        if (size_ < capacity) return;
    }
}

#endif

}  // namespace flic::codec
