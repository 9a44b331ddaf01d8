// Products of rows with packed weights, and what surrounds them in a transformer block: the float
// kernels' one interface to products. Results do not depend on the number of threads.
//
//     Product ffn(4 * c, c);                      // Linear(c, 4c)
//     ffn.pack(weight, bias, pool);               // in every call: nothing is kept between calls
//     ffn.run(rows, {in, c}, {out, 4 * c}, {Activation::gelu});      // in any thread
#pragma once
#include <stddef.h>

#include "../floats.h"
#include "../pool.h"
#include "row_kernels.h"

namespace flic::cpu {

// Where rows lie: equally far apart, or by pointers, `parts` of them for each row.
template <class T>
struct Rows {
    T* base = nullptr;
    ptrdiff_t stride = 0;
    T* const* pointers = nullptr;
    int parts = 1;

    Rows() = default;
    Rows(T* first, ptrdiff_t elements) : base(first), stride(elements) {}
    Rows(T* const* rows_by_parts, int parts_of_a_row)
        : pointers(rows_by_parts), parts(parts_of_a_row) {}

    T* at(ptrdiff_t row, int part = 0) const {
        return pointers ? pointers[row * parts + part] : base + row * stride;
    }
    explicit operator bool() const { return base || pointers; }
};

enum class Activation : int { none, leaky_relu, gelu };
enum class Root : int { none, divide, multiply };

// What is done to a result (which has its bias) before it is stored, in this order.
struct Epilogue {
    Activation activation = Activation::none;  // leaky ReLU of slope 0.01, GELU with erf
    Root root = Root::none;                    // factor / sqrt(result) or factor * sqrt(result): GDN
    Rows<const float> factor = {};
    Rows<const float> residual = {};  // added; may be the output itself
    bool padded = false;  // the rows out have room for whole vectors, which are written with zeros
};

// Packed weights as the kernels see them: panels of a few times 16 columns, each [k][column],
// k = tap * channels + channel.
struct Panels {
    ptrdiff_t depth;    // of k
    int groups;         // the outputs in equal parts; each part's rows have pointers of their own
    int group_outputs;  // real columns of a group; padded to a multiple of 16
    int group_vectors;
    const float* weights;
    const float* bias;  // [groups][16 * group_vectors]
};

// One instruction set's functions. Nothing here allocates, locks or knows about threads.
struct ProductKernels {
    int panel_vectors;  // the widest panel

    // All groups and columns of `rows` rows; in has k in equal parts, out (and factor and residual)
    // a part for each group.
    void (*product)(const Panels&, int rows, const Rows<const float>& in, const Rows<float>& out,
                    const Epilogue&);
    // Sixteen columns of all k into a panel `width` columns wide, at its column 0. from[i] is
    // column i's weights [channels][taps], or null: zeros.
    void (*pack_columns)(const float* const* from, int channels, int taps, float* panel,
                         int width);
};

extern const ProductKernels kScalarProducts;
#if defined(__x86_64__)
extern const ProductKernels kAvx2Products;
extern const ProductKernels kAvx512Products;
#endif

// The tables for the instruction set in use.
const ProductKernels& product_kernels();

// out = in * weight^T + bias: a Linear (taps 1), or a 3x3 convolution (taps 9) whose rows are given
// in parts: tap by tap, or line by line, three neighbouring pixels each.
class Product {
  public:
    // groups > 1: output o of the torch weight is column o / groups of group o % groups, as a pixel
    // shuffle wants it.
    Product(int outputs, int channels, int taps = 1, int groups = 1);

    // weight [outputs][channels][taps], as torch holds it; bias [outputs] or null.
    void pack(const float* weight, const float* bias, Pool& pool);
    // weight [channels][outputs]: the product with the transposed weight. One tap, one group.
    void pack_transposed(const float* weight, const float* bias, Pool& pool);

    // in: depth() values for each row, in equal parts. May run in several threads at once.
    void run(int rows, const Rows<const float>& in, const Rows<float>& out,
             const Epilogue& epilogue = {}) const {
        kernels_.product(panels_, rows, in, out, epilogue);
    }

    int outputs() const { return panels_.groups * panels_.group_outputs; }
    int depth() const { return static_cast<int>(panels_.depth); }
    int padded_outputs() const { return panels_.groups * panels_.group_vectors * 16; }

  private:
    void pack_bias(const float* bias);
    float* panel_of(int group, int vector, int* column, int* width) const;

    const ProductKernels& kernels_;
    int channels_, taps_;
    Panels panels_;
    Floats weights_, bias_;
};

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
