// Frequency modulation, one window at a time: what an instruction set provides, and the weights
// that callers prepare once for all windows.
//
// Lanes are 16 channels, a group. The real transform runs along rows, the complex one along
// columns. Columns 0 and P/2 of a real window's spectrum are transforms of real columns: they
// travel as one complex column, the first as its real part and the other as its imaginary part.
#pragma once
#include <stddef.h>

#include "base/isa.h"
#include "cpu/element.h"

namespace flic::cpu {

constexpr int kGroup = 16;

// Whether there are kernels for P x P windows: P is 2, 4, 8 or 16.
inline bool modulation_size(int size) { return size == 2 || size == 4 || size == 8 || size == 16; }

inline int channel_groups(int channels) { return (channels + kGroup - 1) / kGroup; }

// Floats of prepared weights for all channels.
inline ptrdiff_t prepared_weight_size(int size, int channels) {
    return static_cast<ptrdiff_t>(channel_groups(channels)) * size * (size + 2) * kGroup;
}

// weight [P][P / 2 + 1][channels][2] -> prepared, both transforms' factors included. `conjugate`
// gives the weights of the gradient's way back.
void prepare_weight(const float* weight, int size, int channels, bool conjugate, float* prepared);

// Floats in which one group's or all channels' weight gradients are summed: see weight_gradient.
inline ptrdiff_t weight_sums_size(int size, int channels) {
    return static_cast<ptrdiff_t>(channel_groups(channels)) * (size * size + 4) * kGroup;
}

// Sums of spectra -> the weight's gradient [P][P / 2 + 1][channels][2].
void weight_gradient(const float* sums, int size, int channels, float* gradient);

// A window's pixels; a pixel's channels are contiguous. Distances count elements.
struct Pixels {
    const void* data;
    ptrdiff_t token, row;  // from pixel to pixel, from row to row
    Element element;
};
struct PixelsOut {
    void* data;
    ptrdiff_t token, row;
    Element element;
};

struct ModulationKernels {
    // out = modulated x, plus the residual where its data is not null. out may be x or the
    // residual.
    void (*modulate)(int size, int channels, const float* weight, const Pixels& x,
                     const Pixels& residual, const PixelsOut& out);
    // dx from the result's gradient and the conjugate weights; the weight's gradient is added to
    // `sums`.
    void (*modulate_backward)(int size, int channels, const float* weight, const Pixels& grad,
                              const Pixels& x, const PixelsOut& dx, float* sums);
};

FLIC_FOR_EACH_ISA(extern const ModulationKernels frequency_modulation)

}  // namespace flic::cpu
