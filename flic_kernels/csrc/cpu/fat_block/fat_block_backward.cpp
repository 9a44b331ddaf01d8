// The gradients of a whole FAT block, from its input, its attention's results and its result's
// gradient: everything else is computed again.
//
// Four stages, each over all tokens: up to q, k and v; tile by tile the rest of the way forward and
// the way back to the attention's results; back through the attention; back to the block's input.
// The stages' results are float32 images, as all arithmetic is.
#include <string.h>

#include <algorithm>
#include <type_traits>
#include <vector>

#include "cpu/fat_block/fat_block.h"
#include "cpu/frequency_modulation/frequency_modulation.h"
#include "cpu/guarded.h"
#include "cpu/kernels.h"
#include "cpu/product/product.h"
#include "cpu/product/rows_as_floats.h"
#include "cpu/product/weight_gradient.h"
#include "cpu/window_attention/window_attention.h"

namespace flic::cpu {
namespace {

// A Linear, its way back, and its parameters' gradients.
struct Layer {
    Product product, back;
    WeightGradient sums;

    Layer(const void* weight, const float* bias, int outputs, int inputs, int parts, Pool& pool)
        : product(outputs, inputs), back(inputs, outputs), sums(outputs, inputs, parts) {
        product.pack(static_cast<const float*>(weight), bias, pool);
        back.pack_transposed(static_cast<const float*>(weight), inputs, nullptr, pool);
    }
};

// A LayerNorm and its parameters' gradients, summed part by part.
struct Norm {
    const float *weight, *bias;
    int channels, parts;
    float eps;
    Floats sums;

    Norm(const float* w, const float* b, int c, float e, int p)
        : weight(w), bias(b), channels(c), parts(p), eps(e), sums(2 * static_cast<size_t>(p) * c) {}

    void forward(const float* x, int rows, float* out) const {
        kernels().rows.layer_norm(x, channels, rows, channels, weight, bias, eps, out, channels,
                                  false);
    }
    // grad becomes x's gradient.
    void backward(int part, const float* x, int rows, float* grad) const {
        float* const own = sums.get() + 2 * static_cast<size_t>(part) * channels;
        kernels().gradient_rows.layer_norm(x, grad, rows, channels, weight, eps, grad, own,
                                           own + channels);
    }
    void total(float* dweight, float* dbias) const {
        memset(dweight, 0, channels * sizeof(float));
        memset(dbias, 0, channels * sizeof(float));
        for (int p = 0; p < parts; ++p) {
            const float* const own = sums.get() + 2 * static_cast<size_t>(p) * channels;
            add(dweight, own, dweight, channels);
            add(dbias, own + channels, dbias, channels);
        }
    }
};

// The tensors of some pictures.
template <class T>
struct Pictures {
    int count;
    const T *x, *attended;
    float* lse;
    const T* grad;
    T* dx;
};

template <class T>
class FATGradient {
  public:
    // All weights are float32 here. wanted: whether their gradients are.
    FATGradient(const FATShape& shape, const FATParameters& p, bool wanted, Pool& pool)
        : shape_(shape),
          p_(p),
          pool_(pool),
          c_(shape.channels),
          tiles_(fat_tiles(shape)),
          group_(std::max(1, kGradientTokens / tiles_.tokens())),
          rows_(group_ * tiles_.tokens()),
          picture_(static_cast<ptrdiff_t>(shape.height) * shape.width),
          together_(
              static_cast<int>(std::clamp<ptrdiff_t>(kValues / (picture_ * c_), 1, shape.batch))),
          parts_(GradientParts(together_ * picture_).parts),
          sums_(wanted ? parts_ : 0),
          conv1_1_(p.conv1_1_weight, p.conv1_1_bias, c_, c_, sums_, pool),
          qkv_(p.qkv_weight, nullptr, 3 * c_, c_, sums_, pool),
          proj_(p.proj_weight, p.proj_bias, c_, c_, sums_, pool),
          expand_(p.expand_weight, p.expand_bias, 4 * c_, c_, sums_, pool),
          contract_(p.contract_weight, p.contract_bias, c_, 4 * c_, sums_, pool),
          conv1_2_(p.conv1_2_weight, p.conv1_2_bias, c_, c_, sums_, pool),
          norm1_(p.norm1_weight, p.norm1_bias, c_, shape.eps, parts_),
          norm2_(p.norm2_weight, p.norm2_bias, c_, shape.eps, parts_),
          modulation_(weights(false)),
          conjugate_(weights(true)),
          modulation_sums_(static_cast<size_t>(parts_) * modulation_size()),
          t_(image(1)),
          qkv_image_(image(3)),
          dqkv_(image(3)),
          wide_(kWiden ? image(1) : Floats()),
          dattended_(image(1)),
          dt_(image(1)) {
        for (int i = 0; i < pool.threads(); ++i) workers_.emplace_back(*this);
    }

    // A few pictures at a time, so that the stages' results stay in cache.
    void run(const Pictures<T>& all, const FATGradients* to) {
        ptrdiff_t sizes[kBranches];
        Floats tables[kBranches];
        for (int b = 0; b < kBranches; ++b) {
            const AttentionBranch branch =
                attention_branch(b, shape_.window, shape_.shifted, shape_.heads, c_ / shape_.heads);
            sizes[b] = branch.heads * branch.table_rows();
            tables[b] = Floats(sizes[b], Floats::Fill::none);
            if (to) memset(to->tables[b], 0, sizes[b] * sizeof(float));
        }
        float* const own[kBranches] = {tables[0].get(), tables[1].get(), tables[2].get(),
                                       tables[3].get()};
        for (int first = 0; first < all.count; first += together_) {
            const ptrdiff_t token = first * picture_, at = token * c_;
            run_some({std::min(together_, all.count - first), all.x + at, all.attended + at,
                      all.lse + token, all.grad + at, all.dx + at},
                     own);
            for (int b = 0; to && b < kBranches; ++b) {
                add(to->tables[b], own[b], to->tables[b], sizes[b]);
            }
        }
        if (to) total(*to);
    }

  private:
    static constexpr bool kWiden = !std::is_same_v<T, float>;
    static constexpr ptrdiff_t kValues = 1 << 17;  // of t: as many pictures go through together
    using Matrix = Rows<float>;
    using ConstMatrix = Rows<const float>;

    // The sums of all parts.
    void total(const FATGradients& to) {
        conv1_1_.sums.total(to.conv1_1_weight, to.conv1_1_bias, pool_);
        norm1_.total(to.norm1_weight, to.norm1_bias);
        qkv_.sums.total(to.qkv_weight, nullptr, pool_);
        proj_.sums.total(to.proj_weight, to.proj_bias, pool_);
        norm2_.total(to.norm2_weight, to.norm2_bias);
        expand_.sums.total(to.expand_weight, to.expand_bias, pool_);
        contract_.sums.total(to.contract_weight, to.contract_bias, pool_);
        conv1_2_.sums.total(to.conv1_2_weight, to.conv1_2_bias, pool_);
        for (int part = 1; part < parts_; ++part) {
            add(modulation_sums_.get(), sums_of(part), modulation_sums_.get(), modulation_size());
        }
        weight_gradient(modulation_sums_.get(), shape_.modulation, c_, to.complex_weight);
    }

    void run_some(const Pictures<T>& pictures, float* const* dtables) {
        some_ = pictures;
        float* const attended =
            const_cast<float*>(as_floats(some_.attended, tokens() * c_, wide_.get()));
        project();
        there_and_back(attended);
        attend_backward({qkv_image_.get(), Element::float32, some_.count, shape_.height,
                         shape_.width, shape_.heads, c_ / shape_.heads, shape_.window,
                         shape_.shifted != 0, shape_.batch * picture_},
                        p_.tables, attended, some_.lse, dattended_.get(), dqkv_.get(), dtables,
                        pool_.threads());
        finish();
    }

    ptrdiff_t tokens() const { return some_.count * picture_; }
    // Of as many pictures as go through together.
    Floats image(int channels) const {
        return Floats(static_cast<size_t>(together_ * picture_) * c_ * channels,
                      Floats::Fill::none);
    }
    Floats weights(bool conjugate) const {
        Floats w(static_cast<size_t>(prepared_weight_size(shape_.modulation, c_)),
                 Floats::Fill::none);
        prepare_weight(p_.complex_weight, shape_.modulation, c_, conjugate, w.get());
        return w;
    }
    ptrdiff_t modulation_size() const { return weight_sums_size(shape_.modulation, c_); }
    float* sums_of(int part) const { return modulation_sums_.get() + part * modulation_size(); }

    // work(part, worker, first row, number of rows) for all tokens in order.
    template <class Work>
    void for_steps(const Work& work) {
        const GradientParts parts(tokens());
        pool_.run(parts.parts, [&](int part, int worker) {
            parts.for_steps(
                part, [&](int64_t first, int rows) { work(part, workers_[worker], first, rows); });
        });
    }

    void project() {
        for_steps([&](int, Worker& w, int64_t first, int rows) {
            const ptrdiff_t count = static_cast<ptrdiff_t>(rows) * c_;
            float* const t = t_.get() + first * c_;
            const float* const x = as_floats(some_.x + first * c_, count, w.d.get());
            conv1_1_.product.run(rows, {x, c_}, Matrix(t, c_));
            norm1_.forward(t, rows, w.normed.get());
            qkv_.product.run(rows, {w.normed.get(), c_},
                             Matrix(qkv_image_.get() + 3 * first * c_, 3 * c_));
        });
    }

    void finish() {
        for_steps([&](int part, Worker& w, int64_t first, int rows) {
            const ptrdiff_t count = static_cast<ptrdiff_t>(rows) * c_;
            const float* const t = t_.get() + first * c_;
            const float* const given = dqkv_.get() + 3 * first * c_;
            float *const n = w.normed.get(), *const d = w.dt.get();
            norm1_.forward(t, rows, n);
            qkv_.sums.add(part, rows, given, 3 * c_, ConstMatrix(n, c_));
            qkv_.back.run(rows, {given, 3 * c_}, Matrix(d, c_));
            norm1_.backward(part, t, rows, d);
            add(d, dt_.get() + first * c_, d, count);
            const float* const x = as_floats(some_.x + first * c_, count, w.d.get());
            conv1_1_.sums.add(part, rows, d, c_, ConstMatrix(x, c_));
            Epilogue<T> add_grad;
            add_grad.residual = {some_.grad + first * c_, c_};
            conv1_1_.back.run(rows, {d, c_}, Rows<T>(some_.dx + first * c_, c_), add_grad);
        });
    }

    // A thread's tokens, of a group of tiles tile after tile, and where these lie in the images.
    struct Worker {
        Floats t, normed, filtered, grad, dt, d, hidden, activated;
        std::vector<const float*> before, attended;
        std::vector<const T*> given;
        std::vector<float*> dattended, dbefore;

        explicit Worker(const FATGradient& f)
            : t(f.group_floats(1)),
              normed(f.group_floats(1)),
              filtered(f.group_floats(1)),
              grad(f.group_floats(1)),
              dt(f.group_floats(1)),
              d(f.group_floats(1)),
              hidden(f.group_floats(4)),
              activated(f.group_floats(4)),
              before(f.rows_),
              attended(f.rows_),
              given(f.rows_),
              dattended(f.rows_),
              dbefore(f.rows_) {}
    };
    Floats group_floats(int channels) const {
        return Floats(static_cast<size_t>(std::max(rows_, kGradientTokens)) * c_ * channels,
                      Floats::Fill::none);
    }

    void there_and_back(float* attended) {
        const int groups = static_cast<int>((tokens() + rows_ - 1) / rows_);
        const int parts = std::min(groups, parts_);
        pool_.run(parts, [&](int part, int worker) {
            for (int g = groups * part / parts; g < groups * (part + 1) / parts; ++g) {
                tile_group(workers_[worker], part, g, attended);
            }
        });
    }

    void tile_group(Worker& w, int part, int group, const float* attended_image) {
        const int down = some_.count * (shape_.height / tiles_.side);
        const int first = group * group_, last = std::min(down * tiles_.across, first + group_);
        const int rows = (last - first) * tiles_.tokens();
        const ptrdiff_t count = static_cast<ptrdiff_t>(rows) * c_;
        tiles_.find(first, last, static_cast<const float*>(t_.get()), c_, down, w.before.data());
        tiles_.find(first, last, attended_image, c_, down, w.attended.data());
        tiles_.find(first, last, some_.grad, c_, down, w.given.data());
        tiles_.find(first, last, dattended_.get(), c_, down, w.dattended.data());
        tiles_.find(first, last, dt_.get(), c_, down, w.dbefore.data());
        const ConstMatrix attended(w.attended.data(), 1), normed(w.normed.get(), c_);
        float *const t = w.t.get(), *const hidden = w.hidden.get(), *const d = w.d.get();

        // Forward to conv1_2's input, which takes t's place in w.dt for a while.
        Epilogue<float> add_before;
        add_before.residual = ConstMatrix(w.before.data(), 1);
        proj_.product.run(rows, attended, Matrix(t, c_), add_before);
        norm2_.forward(t, rows, w.normed.get());
        expand_.product.run(rows, normed, Matrix(hidden, 4 * c_));
        kernels().rows.gelu(hidden, w.activated.get(), 4 * count);
        contract_.product.run(rows, {w.activated.get(), 4 * c_}, Matrix(w.filtered.get(), c_));
        for_modulation_windows(rows, [&](ptrdiff_t at) {
            kernels().frequency_modulation.modulate(shape_.modulation, c_, modulation_.get(),
                                                    pixels(w.filtered.get() + at), pixels(t + at),
                                                    pixels_out(d + at));
        });

        // Back through conv1_2 and the modulation.
        for (int r = 0; r < rows; ++r) {
            float* const to = w.grad.get() + static_cast<ptrdiff_t>(r) * c_;
            const float* const wide = as_floats(w.given[r], c_, to);
            if (wide != to) memcpy(to, wide, c_ * sizeof(float));
        }
        float* const dt = w.dt.get();
        conv1_2_.sums.add(part, rows, w.grad.get(), c_, ConstMatrix(d, c_));
        conv1_2_.back.run(rows, {w.grad.get(), c_}, Matrix(dt, c_));
        for_modulation_windows(rows, [&](ptrdiff_t at) {
            kernels().frequency_modulation.modulate_backward(
                shape_.modulation, c_, conjugate_.get(), pixels(dt + at),
                pixels(w.filtered.get() + at), pixels_out(d + at), sums_of(part));
        });

        // Back through the feed-forward network, whose gradient joins t's.
        contract_.sums.add(part, rows, d, c_, ConstMatrix(w.activated.get(), 4 * c_));
        contract_.back.run(rows, {d, c_}, Matrix(w.activated.get(), 4 * c_));
        kernels().gradient_rows.gelu(hidden, w.activated.get(), hidden, 4 * count);
        expand_.sums.add(part, rows, hidden, 4 * c_, normed);
        expand_.back.run(rows, {hidden, 4 * c_}, Matrix(d, c_));
        norm2_.backward(part, t, rows, d);
        add(dt, d, dt, count);

        // Back to the attention's results, and to t before it.
        proj_.sums.add(part, rows, dt, c_, attended);
        proj_.back.run(rows, {dt, c_}, Matrix(w.dattended.data(), 1));
        for (int r = 0; r < rows; ++r) {
            memcpy(w.dbefore[r], dt + static_cast<ptrdiff_t>(r) * c_, c_ * sizeof(float));
        }
    }

    // visit(offset of a window's first value) in tiles that follow each other.
    template <class Visit>
    void for_modulation_windows(int rows, const Visit& visit) const {
        const int side = tiles_.side, size = shape_.modulation;
        for (int tile = 0; tile < rows; tile += tiles_.tokens()) {
            for (int y = 0; y < side; y += size) {
                for (int x = 0; x < side; x += size) {
                    visit((tile + static_cast<ptrdiff_t>(y) * side + x) * c_);
                }
            }
        }
    }
    ptrdiff_t tile_row() const { return static_cast<ptrdiff_t>(tiles_.side) * c_; }
    Pixels pixels(const float* from) const { return {from, c_, tile_row(), Element::float32}; }
    PixelsOut pixels_out(float* to) const { return {to, c_, tile_row(), Element::float32}; }

    const FATShape shape_;
    const FATParameters& p_;
    Pool& pool_;
    const int c_;
    const Tiles tiles_;
    const int group_, rows_;  // tiles and tokens that a thread takes at a time, in the second stage
    const ptrdiff_t picture_;  // tokens
    const int together_;       // pictures
    const int parts_;          // of the gradients' sums, at most
    const int sums_;           // as many, or 0 where the products' are not wanted
    Layer conv1_1_, qkv_, proj_, expand_, contract_, conv1_2_;
    const Norm norm1_, norm2_;
    const Floats modulation_, conjugate_, modulation_sums_;
    const Floats t_, qkv_image_, dqkv_, wide_, dattended_, dt_;
    std::vector<Worker> workers_;
    Pictures<T> some_ = {};  // that go through now
};

}  // namespace
}  // namespace flic::cpu

// From grad, the result's gradient, x, and what flic_fat_block kept, attended and lse (which is
// only read): dx, all images of one element type, and the parameters' gradients (null: none is
// wanted), in the order of the parameters, all of which are float32 here.
FLIC_API int flic_fat_block_backward(const void* grad, const void* x, const void* attended,
                                     float* lse, int element, const FlicFatParameters* parameters,
                                     const FlicFatShape* shape, void* dx,
                                     const FlicFatGradients* gradients, int threads) {
    using namespace flic::cpu;
    return guarded(element, [&](auto type) {
        using T = decltype(type);
        FATGradient<T>(*shape, *parameters, gradients != nullptr, flic::team(threads))
            .run({shape->batch, static_cast<const T*>(x), static_cast<const T*>(attended), lse,
                  static_cast<const T*>(grad), static_cast<T*>(dx)},
                 gradients);
    });
}
