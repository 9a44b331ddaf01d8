// The table of functions, filled for the instruction set of the including file (kernels_*.cpp).
#pragma once
#include "attention.h"
#include "kernels.h"
#include "normalisation.h"
#include "product.h"

namespace {

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
