// The epilogue of a tile of a product, for the instruction set of the including file.
#pragma once
#include "cpu/product/product.h"
#include "simd/load_store.h"
#include "simd/quick_functions.h"

namespace {

using flic::cpu::Activation;
using flic::cpu::Epilogue;
using flic::cpu::Panels;
using flic::cpu::Root;
using flic::cpu::Rows;

// One panel's columns of one group, and where they go.
struct Columns {
    const float* bias;
    int group;
    int column;  // the first, within the group
    int count;   // to store
    bool plain;  // as they are, or with a residual alone
};

// buffer [rows][stride] to the rows of out from `first` on.
template <class Out>
void finish(const float* buffer, int stride, int first, int rows, const Columns& c,
            const Rows<Out>& out, const Epilogue<Out>& e) {
    for (int r = 0; r < rows; ++r, buffer += stride) {
        Out* const to = out.at(first + r, c.group) + c.column;
        const Out* const factor =
            e.root == Root::none ? nullptr : e.factor.at(first + r, c.group) + c.column;
        const Out* const residual =
            e.residual ? e.residual.at(first + r, c.group) + c.column : nullptr;
        for (int n = 0; n < c.count; n += kLanes) {
            const int left = c.count - n;
            const auto given = [&](const Out* from) {
                return left >= kLanes ? load(from + n) : load_first(from + n, left);
            };
            Lanes v = Lanes::load(buffer + n);
            if (e.activation == Activation::leaky_relu) v = leaky_relu(v);
            if (e.activation == Activation::gelu) v = quick_gelu(v);
            if (e.root == Root::divide) v = Lanes::mul(given(factor), reciprocal_root(v));
            if (e.root == Root::multiply) v = Lanes::mul(given(factor), Lanes::sqrt(v));
            if (residual) v = Lanes::add(v, given(residual));
            if (left >= kLanes) {
                store(to + n, v);
            } else {
                store_first(to + n, v, left);
            }
        }
    }
}

// panel(vectors, weights, columns) for each panel of all groups, `weight_size` bytes a weight.
template <class Out, class Panel>
FLIC_INLINE void for_panels(const Panels& p, int widest, int weight_size, const Epilogue<Out>& e,
                            const Panel& panel) {
    const bool plain = e.activation == Activation::none && e.root == Root::none;
    const char* weights = static_cast<const char*>(p.weights);
    const float* bias = p.bias;
    for (int group = 0; group < p.groups; ++group) {
        for (int v = 0; v < p.group_vectors;) {
            const int vectors = flic::cpu::panel_span(p.group_vectors, v, widest).vectors;
            const int column = v * kLanes, width = vectors * kLanes;
            const int left = p.group_outputs - column;
            const int count = e.padded || left > width ? width : left;
            panel(vectors, weights, Columns{bias, group, column, count, plain});
            v += vectors;
            weights += p.parts * p.padded_length * width * weight_size;
            bias += width;
        }
    }
}

}  // namespace
