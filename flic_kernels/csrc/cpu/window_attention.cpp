// Window attention of whole images: the loop over tiles and threads, and the C interface.
#include <stdint.h>

#include <new>
#include <vector>

#include "../floats.h"
#include "../pool.h"
#include "../status.h"
#include "attention.h"

namespace flic::cpu {
namespace {

constexpr int kTokensAtOnce = 256;  // a thread takes at least so many at a time

struct Image {
    const void* qkv;  // [batch, height, width, 3 * channels]
    Element element;
    int64_t batch;
    int height, width, heads, dim, window;
    bool shifted;

    int channels() const { return heads * dim; }
    int side() const { return 2 * window; }  // of a tile, which every branch's windows divide
    int64_t tiles() const { return batch * (height / side()) * (width / side()); }
    int64_t tokens() const { return batch * height * width; }
};

// The branches with their bias, which `storage` holds.
struct Branches {
    AttentionBranch branch[kBranches];
    Floats storage;
    ptrdiff_t scratch = 0;  // of any branch's window, a multiple of 16

    Branches(const Image& image, const float* const* tables) {
        ptrdiff_t offset[kBranches], size = 0;
        for (int b = 0; b < kBranches; ++b) {
            branch[b] = attention_branch(b, image.window, image.shifted, image.heads, image.dim);
            offset[b] = size;
            size += branch[b].heads * branch[b].bias_size();
            const ptrdiff_t needed = (attention_scratch(branch[b]) + 15) / 16 * 16;
            scratch = needed > scratch ? needed : scratch;
        }
        storage = Floats(static_cast<size_t>(size), Floats::Fill::none);
        for (int b = 0; b < kBranches; ++b) {
            branch[b].bias = storage.get() + offset[b];
            prepare_bias(branch[b], tables[b], storage.get() + offset[b]);
        }
    }
};

// All branches' windows in one tile; lse [heads][tokens], window after window within a branch.
void attend_tile(const Image& image, const Branches& branches, const AttentionKernels& kernels,
                 int64_t tile, void* out, float* lse, float* scratch) {
    const int side = image.side(), columns = image.width / side;
    const int64_t per_image = static_cast<int64_t>(image.height / side) * columns;
    const int64_t picture = tile / per_image;
    const int top = static_cast<int>(tile % per_image / columns) * side;
    const int left = static_cast<int>(tile % per_image % columns) * side;
    const ptrdiff_t channels = image.channels(), quarter = channels / kBranches;
    const ptrdiff_t first = picture * image.height * image.width;
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
        w.lse_stride = image.tokens();
        w.scratch = scratch;
        for (int y = 0; y < side; y += height) {
            for (int x = 0; x < side; x += width) {
                w.top = top + y;
                w.left = left + x;
                if (lse) {
                    const int64_t window = w.top / height * (image.width / width) + w.left / width;
                    w.lse = lse + b * branch.heads * w.lse_stride + first + window * branch.keys();
                }
                kernels.attend(branch, w);
            }
        }
    }
}

// Shares the tiles out, so many in a row that a thread has at least kTokensAtOnce tokens.
template <class Work>
void for_tiles(const Image& image, int threads, const Work& work) {
    const int64_t tokens = static_cast<int64_t>(image.side()) * image.side();
    const int64_t run = tokens < kTokensAtOnce ? kTokensAtOnce / tokens : 1;
    const int64_t tiles = image.tiles();
    team(threads).run(static_cast<int>((tiles + run - 1) / run), [&](int item, int worker) {
        const int64_t end = (item + 1) * run < tiles ? (item + 1) * run : tiles;
        for (int64_t tile = item * run; tile < end; ++tile) work(tile, worker);
    });
}

}  // namespace
}  // namespace flic::cpu

// qkv [batch, height, width, 3 * heads * dim], out [batch, height, width, heads * dim], both of
// `element`; tables: the branches' bias [rows][heads / 4]; lse: null or [heads][tokens].
FLIC_API int flic_window_attention(const void* qkv, int element, const float* const* tables,
                                   void* out, float* lse, int64_t batch, int height, int width,
                                   int heads, int dim, int window, int shifted, int threads) {
    using namespace flic::cpu;
    try {
        const Image image = {qkv,   static_cast<Element>(element), batch, height, width, heads, dim,
                             window, shifted != 0};
        const Branches branches(image, tables);
        const AttentionKernels& kernels = attention_kernels();
        const flic::Floats scratch(static_cast<size_t>(threads * branches.scratch),
                                   flic::Floats::Fill::none);
        for_tiles(image, threads, [&](int64_t tile, int worker) {
            attend_tile(image, branches, kernels, tile, out, lse,
                        scratch.get() + worker * branches.scratch);
        });
        return FLIC_OK;
    } catch (const std::bad_alloc&) {
        return FLIC_OUT_OF_MEMORY;
    }
}
