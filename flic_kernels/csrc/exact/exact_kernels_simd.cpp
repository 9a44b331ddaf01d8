// The exact engine's kernels, compiled for each instruction set. In plain C++ they are the readable
// reference, and what every processor that is not x86-64 runs.
#include "exact/exact_attention.h"
#include "exact/exact_kernels.h"
#include "exact/exact_product.h"
#include "exact/normalisation.h"

namespace {

// Independent chains in registers, as many as the product's tile has.
double fma_loop(int64_t iterations, float* state) {
    constexpr int kChains = kTileRows * kPanelVectors;
    Lanes chain[kChains];
    const Lanes factor = Lanes::load(state), addend = Lanes::set(1e-3f);
    FLIC_UNROLL for (int i = 0; i < kChains; ++i) chain[i] = Lanes::set(static_cast<float>(i));
    for (int64_t n = 0; n < iterations; ++n) {
        FLIC_UNROLL for (int i = 0; i < kChains; ++i) {
            chain[i] = Lanes::fma(chain[i], factor, addend);
        }
    }
    Lanes sum = Lanes::set(0.0f);
    FLIC_UNROLL for (int i = 0; i < kChains; ++i) sum = Lanes::add(sum, chain[i]);
    sum.store(state);
    return static_cast<double>(iterations) * kChains * kLanes;
}

constexpr flic::exact::Kernels make_kernels() {
    flic::exact::Kernels k = {};
    k.name = FLIC_LANES_NAME;
    k.panel_vectors = kPanelVectors;
    k.product = product;
    k.exp_nonpositive = exp_array;
    k.gelu = gelu_array;
    k.leaky_relu = leaky_relu_array;
    k.square = square_array;
    k.add = add_array;
    k.inverse_gdn = inverse_gdn_array;
    k.fma_loop = fma_loop;
    k.window_moments = window_moments;
    k.normalise_into_halo = normalise_into_halo;
    k.normalise = normalise;
    k.depthwise = depthwise;
    k.normalise_gelu_add = normalise_gelu_add;
    k.token_attention = token_attention;
    k.layer_norm = layer_norm;
    k.window_attention = window_attention;
    k.modulate_add = modulate_add;
    return k;
}

}  // namespace

namespace flic::exact::FLIC_ISA {

const Kernels kernels = make_kernels();

}  // namespace flic::exact::FLIC_ISA
