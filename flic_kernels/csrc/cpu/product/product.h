// Products of rows with packed weights, and what surrounds them in a transformer block: the CPU
// kernels' one interface to products. Results do not depend on the number of threads.
//
//     Product ffn(4 * c, c);                      // Linear(c, 4c)
//     ffn.pack(weight, bias, pool);               // in every call: nothing is kept between calls
//     ffn.run(rows, {in, c}, {out, 4 * c}, gelu); // in any thread
//
// Operands are float32 or bfloat16, results either; sums are in float32.
#pragma once
#include <stddef.h>

#include "base/floats.h"
#include "base/isa.h"
#include "base/pool.h"
#include "cpu/product/row_kernels.h"
#include "cpu/rows.h"

namespace flic::cpu {

enum class Activation : int { none, leaky_relu, gelu };
enum class Root : int { none, divide, multiply };

// What is done to a result (which has its bias) before it is stored, in this order.
template <class Out = float>
struct Epilogue {
    Activation activation = Activation::none;  // leaky ReLU of slope 0.01, GELU with erf
    Root root = Root::none;         // factor / sqrt(result) or factor * sqrt(result): GDN
    Rows<const Out> factor = {};    // may be the output itself
    Rows<const Out> residual = {};  // added; may be the output itself
    bool padded = false;  // the rows out have room for whole vectors, which are written with zeros
};

// Packed weights as the kernels see them: panels of a few times 16 columns, each [k][column]. k is
// in `parts`, each of them tap by tap, a tap channel by channel.
struct Panels {
    ptrdiff_t length;         // of a part, as in the rows
    ptrdiff_t padded_length;  // as in the panels: more where the kernels take several k at once
    int parts;
    int groups;         // the outputs in equal parts; each part's rows have pointers of their own
    int group_outputs;  // real columns of a group; padded to a multiple of 16
    int group_vectors;
    const void* weights;
    const float* bias;  // [groups][16 * group_vectors]
};

// Where weights come from and go to when they are packed: 16 columns of one panel.
struct PackTask {
    const void* const* from;  // pack: of each column, or null: zeros
    int channels, taps;       // pack: a column's weights are [channels][taps]
    const void* first;        // pack_rows: row k, of `channels`, is at first + k * stride
    ptrdiff_t stride;
    int count;  // pack_rows: columns; the others are zeros
    Panels panels;
    void* panel;
    int column, width;  // of the panel
};

// The functions of one instruction set for one type of operands. Nothing here allocates, locks or
// knows about threads.
template <class In>
struct ProductKernels {
    int panel_vectors;   // the widest panel
    int depth_multiple;  // what a part's length is padded to
    int weight_size;     // in bytes

    // All groups and columns of `rows` rows. in has the parts of k, out (and factor and residual)
    // those of the groups.
    void (*to_float)(const Panels&, int rows, const Rows<const In>& in, const Rows<float>& out,
                     const Epilogue<float>&);
    void (*to_bfloat16)(const Panels&, int rows, const Rows<const In>& in,
                        const Rows<Bfloat16>& out, const Epilogue<Bfloat16>&);
    void (*pack)(const PackTask&);
    void (*pack_rows)(const PackTask&);
};

// out = in * weight^T + bias: a Linear (taps 1), or a 3x3 convolution (taps 9) whose rows are given
// in three parts, neighbouring pixels of three lines.
template <class In>
class BasicProduct {
  public:
    // interleaved > 1: output o of the torch weight is result o / interleaved of sub-pixel
    // o % interleaved, and a row's results come sub-pixel by sub-pixel, as a pixel shuffle wants
    // them. groups, 1 or interleaved: how many parts a row out has.
    BasicProduct(int outputs, int channels, int taps = 1, int parts = 1, int interleaved = 1,
                 int groups = 1);

    // weight [outputs][channels][taps], as torch holds it; bias [outputs] or null.
    void pack(const In* weight, const float* bias, Pool& pool);
    // weight [channels][outputs], a row every `stride` elements: the product with the transposed
    // weight. One tap, one group.
    void pack_transposed(const In* weight, ptrdiff_t stride, const float* bias, Pool& pool);
    // The same in the calling thread, of the first `count` rows: the other channels count nothing.
    void pack_rows(const In* rows, ptrdiff_t stride, int count);

    // May run in several threads at once.
    void run(int rows, const Rows<const In>& in, const Rows<float>& out,
             const Epilogue<float>& epilogue = {}) const {
        kernels_.to_float(panels_, rows, in, out, epilogue);
    }
    void run(int rows, const Rows<const In>& in, const Rows<Bfloat16>& out,
             const Epilogue<Bfloat16>& epilogue = {}) const {
        kernels_.to_bfloat16(panels_, rows, in, out, epilogue);
    }

    int outputs() const { return panels_.groups * panels_.group_outputs; }

  private:
    int source(int group, int column) const;
    void pack_bias(const float* bias);
    PackTask task(int group, int vector) const;
    void pack_vector(int vector, const In* rows, ptrdiff_t stride, int count);

    const ProductKernels<In>& kernels_;
    int channels_, taps_, interleaved_;
    Panels panels_;
    Floats weights_, bias_;
};

using Product = BasicProduct<float>;
using Bfloat16Product = BasicProduct<Bfloat16>;

FLIC_FOR_EACH_ISA(extern const ProductKernels<float> products)
FLIC_FOR_EACH_ISA(extern const ProductKernels<Bfloat16> bfloat16_products)
#if defined(FLIC_X86_64)
namespace avx512bf16 {
extern const ProductKernels<Bfloat16> bfloat16_products;
}
namespace amx {
extern const ProductKernels<Bfloat16> bfloat16_products;
}
#endif

// The panel that holds vector v of n, none wider than `most`, as even as can be: where it begins
// and how many vectors it has.
struct PanelSpan {
    int begin, vectors;
};
inline PanelSpan panel_span(int n, int v, int most) {
    const int count = (n + most - 1) / most, wide = n % count, narrow = n / count;
    const int split = wide * (narrow + 1);  // the first `wide` panels have one vector more
    if (v < split) return {v / (narrow + 1) * (narrow + 1), narrow + 1};
    return {split + (v - split) / narrow * narrow, narrow};
}

}  // namespace flic::cpu
