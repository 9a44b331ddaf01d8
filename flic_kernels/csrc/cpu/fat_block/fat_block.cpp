// A whole FAT block in one call.
//
// A plain block is local to tiles of max(2 * window, modulation window) tokens a side, so a group
// of tiles goes through all of it while its activations are in cache. In a shifted block the
// attention looks at the tiles to the right and below, and around the picture's border: bands of
// tiles go through three stages, up to q, k and v, the attention, and the rest, with the stages'
// results in a ring of a few rows of tiles.
//
// Operands of products, q, k, v and the attention's results have the type of x, T; everything
// between them is float32.
#include "cpu/fat_block/fat_block.h"

#include <string.h>

#include <algorithm>
#include <vector>

#include "cpu/frequency_modulation/frequency_modulation.h"
#include "cpu/guarded.h"
#include "cpu/kernels.h"
#include "cpu/product/product.h"

namespace flic::cpu {
namespace {

constexpr int kGroupRows = 256;     // tokens of a group: its activations stay in the L2 cache
constexpr int kGroupsOfThread = 2;  // at least, if there are so many tiles
constexpr int kHiddenRows = 48;     // tokens whose hidden layer is kept: whole register tiles

constexpr int kGroupsOfBand = 16;  // for each thread, of a shifted block
constexpr int kWholeBands = 2;     // pictures of fewer bands go through whole

// Activations of either type, uninitialised.
template <class T>
class Activations {
  public:
    Activations() = default;
    explicit Activations(size_t count)
        : floats_((count * sizeof(T) + sizeof(float) - 1) / sizeof(float), Floats::Fill::none) {}
    T* get() const { return reinterpret_cast<T*>(floats_.get()); }

  private:
    Floats floats_;
};

int padded(int n) { return (n + 15) / 16 * 16; }

// Sizes, and everything that is prepared once a call.
template <class T>
struct Block {
    const FATShape shape;
    const FATParameters& parameters;
    const int channels, stride, qkv_stride, hidden_stride;  // of a token, in values
    const Tiles tiles;
    const int side, tile_rows, across, down;  // of `tiles`; rows of tiles of a picture
    const int group;                          // tiles that go through together
    BasicProduct<T> conv1_1, qkv, proj, expand, contract, conv1_2;
    AttentionBranch branches[kBranches];
    Floats bias[kBranches];
    ptrdiff_t attention_floats = 0;
    Floats modulation;  // prepared weight

    Block(const FATShape& s, const FATParameters& p, Pool& pool)
        : shape(s),
          parameters(p),
          channels(s.channels),
          stride(padded(s.channels)),
          qkv_stride(padded(3 * s.channels)),
          hidden_stride(padded(4 * s.channels)),
          tiles(fat_tiles(s)),
          side(tiles.side),
          tile_rows(tiles.tokens()),
          across(tiles.across),
          down(s.height / side),
          group(std::clamp(s.batch * down * across / (kGroupsOfThread * pool.threads()), 1,
                           std::max(1, kGroupRows / tile_rows))),
          conv1_1(channels, channels),
          qkv(3 * channels, channels),
          proj(channels, channels),
          expand(4 * channels, channels),
          contract(channels, 4 * channels),
          conv1_2(channels, channels),
          modulation(prepared_weight_size(s.modulation, channels), Floats::Fill::none) {
        prepare_weight(p.complex_weight, s.modulation, channels, false, modulation.get());
        conv1_1.pack(weight(p.conv1_1_weight), p.conv1_1_bias, pool);
        qkv.pack(weight(p.qkv_weight), nullptr, pool);
        proj.pack(weight(p.proj_weight), p.proj_bias, pool);
        expand.pack(weight(p.expand_weight), p.expand_bias, pool);
        contract.pack(weight(p.contract_weight), p.contract_bias, pool);
        conv1_2.pack(weight(p.conv1_2_weight), p.conv1_2_bias, pool);
        for (int b = 0; b < kBranches; ++b) {
            AttentionBranch& branch = branches[b];
            branch = attention_branch(b, s.window, s.shifted, s.heads, channels / s.heads);
            bias[b] = Floats(branch.heads * branch.bias_size(), Floats::Fill::none);
            prepare_bias(branch, p.tables[b], bias[b].get());
            branch.bias = bias[b].get();
            attention_floats = std::max(attention_floats, attention_scratch(branch));
        }
    }

    static const T* weight(const void* p) { return static_cast<const T*>(p); }
    ptrdiff_t picture() const { return static_cast<ptrdiff_t>(shape.height) * shape.width; }
    size_t group_rows() const { return static_cast<size_t>(group) * tile_rows; }
};

// What the backward pass is to find, or nulls: the attention's results, an image as x, and
// window_attention's lse.
template <class T>
struct Kept {
    T* attended = nullptr;
    float* lse = nullptr;

    Kept of_picture(ptrdiff_t tokens, int channels) const {
        return attended ? Kept{attended + tokens * channels, lse + tokens} : Kept{};
    }
};

// A worker's memory, and where its group's tokens lie.
template <class T>
struct Worker {
    Floats t, wide, scratch;
    Activations<T> n, qkv, hidden;
    std::vector<const T*> in, attended;
    std::vector<T*> out, kept;

    explicit Worker(const Block<T>& b)
        : t(b.group_rows() * b.stride, Floats::Fill::none),
          wide(b.group_rows() * b.stride, Floats::Fill::none),
          scratch(b.attention_floats, Floats::Fill::none),
          n(b.group_rows() * b.stride),
          qkv(b.shape.shifted ? 0 : b.group_rows() * b.qkv_stride),
          hidden(static_cast<size_t>(kHiddenRows) * b.hidden_stride),
          in(b.group_rows()),
          attended(b.group_rows()),
          out(b.group_rows()),
          kept(b.group_rows()) {}

    // n = LayerNorm(rows).
    void normalise(const Block<T>& b, const float* rows, int count, const float* weight,
                   const float* bias) {
        const bool narrow = kElement<T> == Element::bfloat16;
        float* const to = narrow ? wide.get() : reinterpret_cast<float*>(n.get());
        kernels().rows.layer_norm(rows, b.stride, count, b.channels, weight, bias, b.shape.eps, to,
                                  b.stride, false);
        if (narrow) {
            kernels().rows.to_bfloat16(to, reinterpret_cast<Bfloat16*>(n.get()),
                                       static_cast<ptrdiff_t>(count) * b.stride);
        }
    }
};

// t = conv1_1(x), and qkv(norm1(t)).
template <class T>
void begin(const Block<T>& b, Worker<T>& w, int rows, float* t, const Rows<T>& qkv) {
    b.conv1_1.run(rows, {w.in.data(), 1}, Rows<float>(t, b.stride));
    w.normalise(b, t, rows, b.parameters.norm1_weight, b.parameters.norm1_bias);
    b.qkv.run(rows, {w.n.get(), b.stride}, qkv);
}

// All windows of all branches that begin, before the roll, in the tile at (top, left) of an image
// of q, k and v; lse: null or that of the picture, in which this is the tile in (row, column).
template <class T>
void attend(const Block<T>& b, Worker<T>& w, const T* qkv, int height, int width, int top, int left,
            T* out, float* lse, int row, int column) {
    const int quarter = b.channels / kBranches;
    AttentionWindow window = {};
    window.stride = b.qkv_stride;
    window.element = kElement<T>;
    window.height = height;
    window.width = width;
    window.out_stride = b.stride;
    window.scratch = w.scratch.get();
    window.lse_stride = b.shape.batch * b.picture();
    for (int branch = 0; branch < kBranches; ++branch) {
        const AttentionBranch& kind = b.branches[branch];
        window.q = qkv + branch * quarter;
        window.k = qkv + b.channels + branch * quarter;
        window.v = qkv + 2 * b.channels + branch * quarter;
        window.out = out + branch * quarter;
        for (int y = 0; y < b.side; y += kind.window_height) {
            for (int x = 0; x < b.side; x += kind.window_width) {
                window.top = top + y;
                window.left = left + x;
                if (lse) {
                    const ptrdiff_t down = (row * b.side + y) / kind.window_height;
                    const ptrdiff_t right = (column * b.side + x) / kind.window_width;
                    const ptrdiff_t index = down * (b.shape.width / kind.window_width) + right;
                    window.lse =
                        lse + branch * kind.heads * window.lse_stride + index * kind.keys();
                }
                kernels().window_attention.attend(kind, window);
            }
        }
    }
}

// From the attention's results to the block's; changes t.
template <class T>
void finish(const Block<T>& b, Worker<T>& w, int rows, const Rows<const T>& attended, float* t) {
    Epilogue<float> add_t;
    add_t.residual = {t, b.stride};
    b.proj.run(rows, attended, Rows<float>(t, b.stride), add_t);
    w.normalise(b, t, rows, b.parameters.norm2_weight, b.parameters.norm2_bias);
    T* const n = w.n.get();
    float* const filtered = w.wide.get();
    Epilogue<T> gelu;
    gelu.activation = Activation::gelu;
    for (int r = 0; r < rows; r += kHiddenRows) {
        const int count = std::min(kHiddenRows, rows - r);
        const ptrdiff_t at = static_cast<ptrdiff_t>(r) * b.stride;
        b.expand.run(count, {n + at, b.stride}, Rows<T>(w.hidden.get(), b.hidden_stride), gelu);
        b.contract.run(count, {w.hidden.get(), b.hidden_stride},
                       Rows<float>(filtered + at, b.stride));
    }
    const int size = b.shape.modulation;
    const ptrdiff_t row = static_cast<ptrdiff_t>(b.side) * b.stride;
    const auto pixels = [&](const float* from) {
        return Pixels{from, b.stride, row, Element::float32};
    };
    for (int tile = 0; tile < rows; tile += b.tile_rows) {
        for (int y = 0; y < b.side; y += size) {
            for (int x = 0; x < b.side; x += size) {
                const ptrdiff_t at = (tile + static_cast<ptrdiff_t>(y) * b.side + x) * b.stride;
                kernels().frequency_modulation.modulate(size, b.channels, b.modulation.get(),
                                                        pixels(filtered + at), pixels(t + at),
                                                        {n + at, b.stride, row, kElement<T>});
            }
        }
    }
    Epilogue<T> add_x;
    add_x.residual = {w.in.data(), 1};
    b.conv1_2.run(rows, {n, b.stride}, Rows<T>(w.out.data(), 1), add_x);
}

// The rows of tiles [first, last) to an image with `down` rows of tiles.
template <class T>
void keep(const Block<T>& b, Worker<T>& w, int first, int last, const Rows<const T>& rows, T* image,
          int down) {
    b.tiles.find(first, last, image, b.channels, down, w.kept.data());
    for (int r = 0; r < (last - first) * b.tile_rows; ++r) {
        memcpy(w.kept[r], rows.at(r), b.channels * sizeof(T));
    }
}

template <class T>
void plain(const Block<T>& b, std::vector<Worker<T>>& workers, const T* x, T* out,
           const Kept<T>& kept, Pool& pool) {
    const int down = b.shape.batch * b.down, tiles = down * b.across;
    pool.run((tiles + b.group - 1) / b.group, [&](int item, int worker) {
        Worker<T>& w = workers[worker];
        const int first = item * b.group, last = std::min(tiles, first + b.group);
        const int rows = (last - first) * b.tile_rows;
        b.tiles.find(first, last, x, b.channels, down, w.in.data());
        b.tiles.find(first, last, out, b.channels, down, w.out.data());
        begin(b, w, rows, w.t.get(), Rows<T>(w.qkv.get(), b.qkv_stride));
        for (int tile = first; tile < last; ++tile) {
            const ptrdiff_t row = static_cast<ptrdiff_t>(tile - first) * b.tile_rows;
            const int at = tile / b.across;
            attend(b, w, w.qkv.get() + row * b.qkv_stride, b.side, b.side, 0, 0,
                   w.n.get() + row * b.stride,
                   kept.of_picture(at / b.down * b.picture(), b.channels).lse, at % b.down,
                   tile % b.across);
        }
        if (kept.attended) {
            keep(b, w, first, last, Rows<const T>(w.n.get(), b.stride), kept.attended, down);
        }
        finish(b, w, rows, Rows<const T>(w.n.get(), b.stride), w.t.get());
    });
}

// One picture through a shifted block. Rows of tiles are counted without end, above and below the
// picture too; row r lies in row r mod `rows` of the ring.
template <class T>
class Shifted {
  public:
    Shifted(const Block<T>& block, std::vector<Worker<T>>& workers, Pool& pool)
        : b_(block), workers_(workers), pool_(pool), rows_(ring_rows(block, pool.threads())) {
        const size_t tokens = static_cast<size_t>(rows_) * b_.across * b_.tile_rows;
        t_ = Floats(tokens * b_.stride, Floats::Fill::none);
        qkv_ = Activations<T>(tokens * b_.qkv_stride);
        attended_ = Activations<T>(tokens * b_.stride);
    }

    void run(const T* x, T* out, const Kept<T>& kept) {
        kept_ = kept;
        if (rows_ == b_.down) {  // the ring is the picture
            project(x, 0, rows_);
            attend_to(0, rows_);
            rest(x, out, 0, rows_);
            return;
        }
        // A row's attention needs the next row's q, k and v, and gives part of the next row's
        // results.
        project(x, -1, 1);
        attend_to(-1, 0);
        for (int row = 0; row < b_.down; row += rows_ - 1) {
            const int end = std::min(b_.down, row + rows_ - 1);
            project(x, row + 1, end + 1);
            attend_to(row, end);
            rest(x, out, row, end);
        }
    }

  private:
    // A band and one row more; the whole picture where that is little more.
    static int ring_rows(const Block<T>& b, int threads) {
        const int band = (kGroupsOfBand * threads * b.group + b.across - 1) / b.across;
        return b.down <= kWholeBands * band + 1 ? b.down : band + 1;
    }

    // work(worker, first, last) on groups of tiles of rows [begin, end). A group's tiles follow
    // each other in the ring.
    template <class Work>
    void groups(int begin, int end, const Work& work) {
        const int first = begin * b_.across, tiles = (end - begin) * b_.across;
        const int run = rows_ == b_.down ? tiles : b_.across;
        const int groups_of_run = (run + b_.group - 1) / b_.group;
        pool_.run(tiles / run * groups_of_run, [&](int item, int worker) {
            const int at = item % groups_of_run * b_.group;
            const int start = first + item / groups_of_run * run;
            work(workers_[worker], start + at, start + std::min(run, at + b_.group));
        });
    }

    // Tile after tile, other than q, k, v and the attention's results, which are images.
    float* t(int tile) const {
        const int row = floor_div(tile, b_.across), column = tile - row * b_.across;
        const ptrdiff_t place = static_cast<ptrdiff_t>(wrapped(row, rows_)) * b_.across + column;
        return t_.get() + place * b_.tile_rows * b_.stride;
    }

    void project(const T* x, int begin_row, int end_row) {
        groups(begin_row, end_row, [&](Worker<T>& w, int first, int last) {
            b_.tiles.find(first, last, x, b_.channels, b_.down, w.in.data());
            b_.tiles.find(first, last, qkv_.get(), b_.qkv_stride, rows_, w.out.data());
            begin(b_, w, (last - first) * b_.tile_rows, t(first), Rows<T>(w.out.data(), 1));
        });
    }

    void attend_to(int begin_row, int end_row) {
        pool_.run((end_row - begin_row) * b_.across, [&](int item, int worker) {
            const int row = wrapped(begin_row + item / b_.across, rows_);
            const int column = item % b_.across;
            attend(b_, workers_[worker], qkv_.get(), rows_ * b_.side, b_.shape.width, row * b_.side,
                   column * b_.side, attended_.get(), kept_.lse,
                   wrapped(begin_row + item / b_.across, b_.down), column);
        });
    }

    void rest(const T* x, T* out, int begin_row, int end_row) {
        groups(begin_row, end_row, [&](Worker<T>& w, int first, int last) {
            const T* const attended = attended_.get();
            b_.tiles.find(first, last, x, b_.channels, b_.down, w.in.data());
            b_.tiles.find(first, last, attended, b_.stride, rows_, w.attended.data());
            b_.tiles.find(first, last, out, b_.channels, b_.down, w.out.data());
            const Rows<const T> results(w.attended.data(), 1);
            if (kept_.attended) keep(b_, w, first, last, results, kept_.attended, b_.down);
            finish(b_, w, (last - first) * b_.tile_rows, results, t(first));
        });
    }

    const Block<T>& b_;
    std::vector<Worker<T>>& workers_;
    Pool& pool_;
    const int rows_;
    Kept<T> kept_;
    Floats t_;
    Activations<T> qkv_, attended_;
};

template <class T>
void run(const T* x, const FATParameters& parameters, const FATShape& shape, T* out,
         const Kept<T>& kept, Pool& pool) {
    const Block<T> block(shape, parameters, pool);
    std::vector<Worker<T>> workers;
    for (int i = 0; i < pool.threads(); ++i) workers.emplace_back(block);
    if (!shape.shifted) return plain(block, workers, x, out, kept, pool);
    Shifted<T> picture(block, workers, pool);
    for (int i = 0; i < shape.batch; ++i) {
        const ptrdiff_t token = i * block.picture(), at = token * shape.channels;
        picture.run(x + at, out + at, kept.of_picture(token, shape.channels));
    }
}

}  // namespace
}  // namespace flic::cpu

// x, out and attended [batch][height][width][channels], of one element type; attended and lse
// [heads][tokens] are kept for the backward pass, or null. The caller has checked that the shapes
// fit together.
FLIC_API int flic_fat_block(const void* x, int element, const FlicFatParameters* parameters,
                            const FlicFatShape* shape, void* out, void* attended, float* lse,
                            int threads) {
    if (!x || !parameters || !shape || !out || threads < 1) return FLIC_BAD_ARGUMENT;
    return flic::cpu::guarded(element, [&](auto type) {
        using T = decltype(type);
        flic::cpu::run(static_cast<const T*>(x), *parameters, *shape, static_cast<T*>(out),
                       {static_cast<T*>(attended), lse}, flic::team(threads));
    });
}
