// The CPU kernels of an instruction set, each table as its kernel's header describes it.
#pragma once
#include "cpu/rows.h"

namespace flic::cpu {

template <class In>
struct ProductKernels;
struct RowKernels;
struct GradientRows;
struct AttentionKernels;
struct SliceKernels;
struct EncodingKernels;
struct ModulationKernels;

struct Kernels {
    const ProductKernels<float>& products;
    const ProductKernels<Bfloat16>& bfloat16_products;
    const RowKernels& rows;
    const GradientRows& gradient_rows;
    const AttentionKernels& window_attention;
    const SliceKernels& slice_attention;
    const EncodingKernels& positional_encoding;
    const ModulationKernels& frequency_modulation;
};

// Those of the instruction set in use.
const Kernels& kernels();

}  // namespace flic::cpu
