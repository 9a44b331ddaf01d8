// Window attention of whole images.
#pragma once
#include <stdint.h>

#include "attention.h"

namespace flic::cpu {

struct AttentionImage {
    const void* qkv;  // [batch, height, width, 3 * channels]
    Element element;
    int64_t batch;
    int height, width, heads, dim, window;
    bool shifted;
    int64_t lse_stride;  // from head to head

    int channels() const { return heads * dim; }
    int side() const { return 2 * window; }  // of a tile, which every branch's windows divide
    int64_t tiles() const { return batch * (height / side()) * (width / side()); }
};

// out [batch, height, width, channels]; tables: the branches' bias [rows][heads / 4]; lse: null or
// [heads][lse_stride], the tokens' one after the other.
void attend(const AttentionImage& image, const float* const* tables, void* out, float* lse,
            int threads);

// From the results out and lse, which are only read, and out's gradient: dqkv, laid out as qkv, and
// dtables, as the tables. The tiles fall into at most 32 chunks, whatever the number of threads; a
// chunk sums the bias's gradient by itself, and the chunks' sums are added in order.
void attend_backward(const AttentionImage& image, const float* const* tables, void* out, float* lse,
                     const void* grad, void* dqkv, float* const* dtables, int threads);

}  // namespace flic::cpu
