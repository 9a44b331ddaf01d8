// Window attention on the CPU: the branches, what callers prepare, one window, and whole images.
//
// A branch's windows are taken one at a time. Lanes are 16 queries, a strip. Scores are kept for
// one strip only, in base 2: log2(e) is folded into the queries and the bias.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "base/isa.h"
#include "cpu/element.h"

namespace flic::cpu {

constexpr int kStrip = 16;
constexpr int kMostStripsTogether = 2;  // with any instruction set
constexpr int kBranches = 4;

// One branch: its windows, heads, rolls before and after (rows, columns), and bias.
struct AttentionBranch {
    int window_height, window_width;
    int heads, dim;
    int look_y, look_x;
    int put_y, put_x;
    const float* bias;  // prepare_bias

    int keys() const { return window_height * window_width; }
    int strips() const { return (keys() + kStrip - 1) / kStrip; }
    int strip_tokens() const { return strips() * kStrip; }
    ptrdiff_t padded_keys() const { return (keys() + 3) / 4 * 4; }
    ptrdiff_t padded_dim() const { return (dim + kStrip - 1) / kStrip * kStrip; }
    // Floats of one of a window's tensors, gathered for all heads.
    ptrdiff_t gathered_size() const {
        return heads * (static_cast<ptrdiff_t>(keys()) * dim + padded_dim());
    }
    // Where a strip lies within one row of the window, the bias of its 16 queries and one key lies
    // side by side in the table. Otherwise the bias is written out for every strip and key.
    bool bias_from_table() const { return window_width % kStrip == 0; }
    ptrdiff_t table_rows() const {
        return static_cast<ptrdiff_t>(2 * window_height - 1) * (2 * window_width - 1);
    }
    // Floats of prepared bias for one head.
    ptrdiff_t bias_size() const {
        return bias_from_table() ? table_rows()
                                 : static_cast<ptrdiff_t>(strips()) * keys() * kStrip;
    }
};

// Branch b (0 to 3) of `heads` heads in all, for window size s; bias left empty.
AttentionBranch attention_branch(int b, int window, bool shifted, int heads, int dim);

// table [table_rows][heads] -> bias [heads][bias_size].
void prepare_bias(const AttentionBranch& branch, const float* table, float* bias);

// The reverse: sums dbias [heads][bias_size] up to dtable [table_rows][heads].
void gather_bias_gradient(const AttentionBranch& branch, const float* dbias, float* dtable);

// Floats of scratch for one window, which begins at a multiple of 8 bytes, better of 64.
ptrdiff_t attention_scratch(const AttentionBranch& branch);
ptrdiff_t attention_backward_scratch(const AttentionBranch& branch);

// One window of an image of tokens, row after row. q, k, v and out point to the branch's first
// channel of the image's first token; a head's channels are contiguous, the heads follow each
// other.
struct AttentionWindow {
    const void *q, *k, *v;
    ptrdiff_t stride;   // from token to token, in elements
    Element element;    // of q, k, v and out
    int height, width;  // of the image, in tokens
    int top, left;      // the window's first token before the roll
    void* out;
    ptrdiff_t out_stride;
    float* lse;  // null, or log2 of the sums of 2^score for the window's queries, for each head
    ptrdiff_t lse_stride;  // from head to head
    float* scratch;
};

// The gradient of one window. Queries, keys, values and results are those of `window`, whose lse
// was filled. Each token's dq, dk and dv belong to one window and are written; the bias's gradient
// is added to.
struct AttentionGradient {
    AttentionWindow window;  // scratch: attention_backward_scratch
    const void* grad;        // of out, laid out as that
    void *dq, *dk, *dv;      // laid out as q, k and v
    float* dbias;            // [heads][bias_size]
};

struct AttentionKernels {  // all heads of a branch
    void (*attend)(const AttentionBranch&, const AttentionWindow&);
    void (*attend_backward)(const AttentionBranch&, const AttentionGradient&);
};

FLIC_FOR_EACH_ISA(extern const AttentionKernels window_attention)

// Whole images.
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
