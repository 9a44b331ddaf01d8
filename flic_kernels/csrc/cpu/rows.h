// Rows of a matrix in memory.
#pragma once
#include <stddef.h>
#include <stdint.h>

namespace flic::cpu {

using Bfloat16 = uint16_t;  // its bits

// Where rows lie: equally far apart, or by pointers. A row may be in up to four parts, which lie
// apart from each other.
template <class T>
struct Rows {
    static constexpr int kMostParts = 4;
    T* base[kMostParts] = {};
    ptrdiff_t stride[kMostParts] = {};  // in elements
    T* const* pointers = nullptr;       // [rows][parts]
    int parts = 1;

    Rows() = default;
    Rows(T* first, ptrdiff_t elements) : base{first}, stride{elements} {}
    Rows(T* const* rows_by_parts, int parts_of_a_row)
        : pointers(rows_by_parts), parts(parts_of_a_row) {}

    T* at(ptrdiff_t row, int part = 0) const {
        return pointers ? pointers[row * parts + part] : base[part] + row * stride[part];
    }
    explicit operator bool() const { return base[0] || pointers; }
};

}  // namespace flic::cpu
