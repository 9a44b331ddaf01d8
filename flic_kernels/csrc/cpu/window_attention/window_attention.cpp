// Window attention: what the kernels need prepared, the loops over images, tiles and threads, and
// the C functions.
#include "cpu/window_attention/window_attention.h"

#include <string.h>

#include <algorithm>
#include <new>

#include "base/floats.h"
#include "base/pool.h"
#include "cpu/kernels.h"
#include "include/flic_kernels.h"

namespace flic::cpu {

AttentionBranch attention_branch(int b, int window, bool shifted, int heads, int dim) {
    const int length = 2 * window, part = window / 2;
    const int heights[kBranches] = {length, part, part, length};
    const int widths[kBranches] = {length, part, length, part};
    AttentionBranch branch = {};
    branch.window_height = heights[b];
    branch.window_width = widths[b];
    branch.heads = heads / kBranches;
    branch.dim = dim;
    if (shifted) {  // windows 1 wide move by one and are not put back: the checkpoints want it
        branch.look_y = (heights[b] + 1) / 2;
        branch.look_x = (widths[b] + 1) / 2;
        branch.put_y = heights[b] / 2;
        branch.put_x = widths[b] / 2;
    }
    return branch;
}

namespace {

// visit(place in the bias of all heads, place in the table) for every element of the bias that
// stands for a query.
template <class Visit>
void for_bias(const AttentionBranch& branch, const Visit& visit) {
    const int height = branch.window_height, width = branch.window_width, keys = branch.keys();
    const int row = 2 * width - 1;
    for (int head = 0; head < branch.heads; ++head) {
        const ptrdiff_t first = head * branch.bias_size();
        if (branch.bias_from_table()) {
            for (ptrdiff_t r = 0; r < branch.table_rows(); ++r) {
                visit(first + r, r * branch.heads + head);
            }
            continue;
        }
        for (int i = 0; i < keys; ++i) {
            const int y = i / width + height - 1, x = i % width + width - 1;
            ptrdiff_t at = first + i / kStrip * static_cast<ptrdiff_t>(keys) * kStrip + i % kStrip;
            for (int key_y = 0; key_y < height; ++key_y) {
                for (int key_x = 0; key_x < width; ++key_x, at += kStrip) {
                    const ptrdiff_t r = static_cast<ptrdiff_t>(y - key_y) * row + x - key_x;
                    visit(at, r * branch.heads + head);
                }
            }
        }
    }
}

}  // namespace

void prepare_bias(const AttentionBranch& branch, const float* table, float* bias) {
    constexpr float kLog2E = 1.44269504f;
    memset(bias, 0, static_cast<size_t>(branch.heads * branch.bias_size()) * sizeof(float));
    for_bias(branch, [&](ptrdiff_t i, ptrdiff_t r) { bias[i] = kLog2E * table[r]; });
}

void gather_bias_gradient(const AttentionBranch& branch, const float* dbias, float* dtable) {
    memset(dtable, 0, static_cast<size_t>(branch.heads * branch.table_rows()) * sizeof(float));
    for_bias(branch, [&](ptrdiff_t i, ptrdiff_t r) { dtable[r] += dbias[i]; });
}

ptrdiff_t attention_scratch(const AttentionBranch& branch) {
    return 4 * branch.padded_keys() + 3 * branch.gathered_size() +
           kMostStripsTogether * kStrip * (branch.keys() + kStrip);
}

ptrdiff_t attention_backward_scratch(const AttentionBranch& branch) {
    return 4 * branch.padded_keys() + 5 * branch.gathered_size() +
           2 * branch.dim * branch.strip_tokens() +
           2 * kMostStripsTogether * kStrip * (branch.keys() + branch.padded_dim());
}

namespace {

constexpr int kTokensAtOnce = 256;  // a thread takes at least so many at a time
constexpr int kChunks = 32;         // partial sums of the bias's gradient, at most

using Image = AttentionImage;

// The branches with their bias, and where each one's part of a sum over all of them lies.
struct Branches {
    AttentionBranch branch[kBranches];
    ptrdiff_t bias_offset[kBranches], bias_size = 0;    // as prepared
    ptrdiff_t table_offset[kBranches], table_size = 0;  // as in the tables
    ptrdiff_t scratch = 0, backward_scratch = 0;        // of any window, multiples of a cache line
    Floats bias;

    Branches(const Image& image, const float* const* tables) {
        for (int b = 0; b < kBranches; ++b) {
            AttentionBranch& one = branch[b];
            one = attention_branch(b, image.window, image.shifted, image.heads, image.dim);
            bias_offset[b] = bias_size;
            bias_size += one.heads * one.bias_size();
            table_offset[b] = table_size;
            table_size += one.heads * one.table_rows();
            scratch = std::max(scratch, whole_lines(attention_scratch(one)));
            backward_scratch =
                std::max(backward_scratch, whole_lines(attention_backward_scratch(one)));
        }
        bias = Floats(static_cast<size_t>(bias_size), Floats::Fill::none);
        for (int b = 0; b < kBranches; ++b) {
            branch[b].bias = bias.get() + bias_offset[b];
            prepare_bias(branch[b], tables[b], bias.get() + bias_offset[b]);
        }
    }

    static ptrdiff_t whole_lines(ptrdiff_t floats) { return (floats + 15) / 16 * 16; }
};

// visit(branch number, window) for every window of every branch in one tile of 2s x 2s tokens; lse
// [heads][tokens], window after window within a branch.
template <class Visit>
void for_windows(const Image& image, const Branches& branches, int64_t tile, void* out, float* lse,
                 float* scratch, const Visit& visit) {
    const int side = image.side(), columns = image.width / side;
    const int64_t per_image = static_cast<int64_t>(image.height / side) * columns;
    const ptrdiff_t first = tile / per_image * image.height * image.width;
    const int top = static_cast<int>(tile % per_image / columns) * side;
    const int left = static_cast<int>(tile % per_image % columns) * side;
    const ptrdiff_t channels = image.channels(), quarter = channels / kBranches;
    for (int b = 0; b < kBranches; ++b) {
        const AttentionBranch& branch = branches.branch[b];
        const int height = branch.window_height, width = branch.window_width;
        AttentionWindow w = {};
        w.q = advance(image.qkv, image.element, first * 3 * channels + b * quarter);
        w.k = advance(w.q, image.element, channels);
        w.v = advance(w.k, image.element, channels);
        w.stride = 3 * channels;
        w.element = image.element;
        w.height = image.height;
        w.width = image.width;
        w.out = advance(out, image.element, first * channels + b * quarter);
        w.out_stride = channels;
        w.lse_stride = image.lse_stride;
        w.scratch = scratch;
        for (w.top = top; w.top < top + side; w.top += height) {
            for (w.left = left; w.left < left + side; w.left += width) {
                if (lse) {
                    const int64_t window =
                        static_cast<int64_t>(w.top / height) * (image.width / width) +
                        w.left / width;
                    w.lse = lse + b * branch.heads * w.lse_stride + first + window * branch.keys();
                }
                visit(b, w);
            }
        }
    }
}

}  // namespace

void attend(const Image& image, const float* const* tables, void* out, float* lse, int threads) {
    const Branches branches(image, tables);
    const AttentionKernels& kernel = kernels().window_attention;
    const Floats scratch(static_cast<size_t>(threads * branches.scratch), Floats::Fill::none);
    // Small tiles several at a time.
    const int64_t tiles = image.tiles(), side = image.side();
    const int64_t run = std::max<int64_t>(1, kTokensAtOnce / (side * side));
    team(threads).run(static_cast<int>((tiles + run - 1) / run), [&](int item, int worker) {
        float* const own = scratch.get() + worker * branches.scratch;
        for (int64_t tile = item * run; tile < std::min(tiles, (item + 1) * run); ++tile) {
            for_windows(image, branches, tile, out, lse, own, [&](int b, const AttentionWindow& w) {
                kernel.attend(branches.branch[b], w);
            });
        }
    });
}

void attend_backward(const Image& image, const float* const* tables, void* out, float* lse,
                     const void* grad, void* dqkv, float* const* dtables, int threads) {
    const Branches branches(image, tables);
    const AttentionKernels& kernel = kernels().window_attention;
    const int64_t tiles = image.tiles();
    const int chunks = static_cast<int>(std::min<int64_t>(tiles, kChunks));
    const ptrdiff_t own_size =
        branches.backward_scratch + Branches::whole_lines(branches.bias_size);
    const Floats scratch(static_cast<size_t>(threads * own_size), Floats::Fill::none);
    const Floats sums(static_cast<size_t>(chunks * branches.table_size), Floats::Fill::none);
    team(threads).run(chunks, [&](int chunk, int worker) {
        float* const own = scratch.get() + worker * own_size;
        float* const dbias = own + branches.backward_scratch;
        memset(dbias, 0, static_cast<size_t>(branches.bias_size) * sizeof(float));
        for (int64_t tile = tiles * chunk / chunks; tile < tiles * (chunk + 1) / chunks; ++tile) {
            for_windows(image, branches, tile, out, lse, own, [&](int b, const AttentionWindow& w) {
                const ptrdiff_t offset =
                    static_cast<const char*>(w.q) - static_cast<const char*>(image.qkv);
                const ptrdiff_t out_offset =
                    static_cast<const char*>(w.out) - static_cast<const char*>(out);
                AttentionGradient g = {};
                g.window = w;
                g.grad = static_cast<const char*>(grad) + out_offset;
                g.dq = static_cast<char*>(dqkv) + offset;
                g.dk = advance(g.dq, image.element, image.channels());
                g.dv = advance(g.dk, image.element, image.channels());
                g.dbias = dbias + branches.bias_offset[b];
                kernel.attend_backward(branches.branch[b], g);
            });
        }
        for (int b = 0; b < kBranches; ++b) {
            gather_bias_gradient(
                branches.branch[b], dbias + branches.bias_offset[b],
                sums.get() + chunk * branches.table_size + branches.table_offset[b]);
        }
    });
    for (int b = 0; b < kBranches; ++b) {
        const ptrdiff_t size = branches.branch[b].heads * branches.branch[b].table_rows();
        memset(dtables[b], 0, static_cast<size_t>(size) * sizeof(float));
        for (int chunk = 0; chunk < chunks; ++chunk) {
            const float* const from =
                sums.get() + chunk * branches.table_size + branches.table_offset[b];
            for (ptrdiff_t r = 0; r < size; ++r) dtables[b][r] += from[r];
        }
    }
}

}  // namespace flic::cpu

// qkv [batch, height, width, 3 * heads * dim], out [batch, height, width, heads * dim], both of
// `element`; tables: the branches' bias [rows][heads / 4]; lse: null or [heads][tokens].
FLIC_API int flic_window_attention(const void* qkv, int element, const float* const* tables,
                                   void* out, float* lse, int64_t batch, int height, int width,
                                   int heads, int dim, int window, int shifted, int threads) {
    using namespace flic::cpu;
    try {
        attend({qkv, static_cast<Element>(element), batch, height, width, heads, dim, window,
                shifted != 0, batch * height * width},
               tables, out, lse, threads);
        return FLIC_OK;
    } catch (const std::bad_alloc&) {
        return FLIC_OUT_OF_MEMORY;
    }
}

// From the forward call's inputs, its out and lse (both only read) and out's gradient: dqkv, laid
// out as qkv, and dtables, as the tables.
FLIC_API int flic_window_attention_backward(const void* qkv, int element,
                                            const float* const* tables, void* out, float* lse,
                                            const void* grad, void* dqkv, float* const* dtables,
                                            int64_t batch, int height, int width, int heads,
                                            int dim, int window, int shifted, int threads) {
    using namespace flic::cpu;
    try {
        attend_backward({qkv, static_cast<Element>(element), batch, height, width, heads, dim,
                         window, shifted != 0, batch * height * width},
                        tables, out, lse, grad, dqkv, dtables, threads);
        return FLIC_OK;
    } catch (const std::bad_alloc&) {
        return FLIC_OUT_OF_MEMORY;
    }
}
