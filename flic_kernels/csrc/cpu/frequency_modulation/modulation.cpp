// What frequency modulation's callers prepare, and the choice of instruction set.
#include "cpu/frequency_modulation/modulation.h"

#include <string.h>


namespace flic::cpu {
namespace {

// One channel of weight [P][P / 2 + 1][channels][2].
struct Channel {
    const float* weight;
    int size, channels;

    float at(int row, int column, int part) const {
        const ptrdiff_t bin = static_cast<ptrdiff_t>(row) * (size / 2 + 1) + column;
        return weight[(bin * channels) * 2 + part];
    }
    // Columns 0 and P / 2 count by what is Hermitian in them: the inverse drops the rest.
    float hermitian(int row, int column, int part) const {
        const float mirrored = at((size - row) % size, column, part);
        return 0.5f * (at(row, column, part) + (part ? -mirrored : mirrored));
    }
};

}  // namespace

void prepare_weight(const float* weight, int size, int channels, bool conjugate, float* prepared) {
    const float scale[2] = {1.0f / static_cast<float>(size * size),
                            (conjugate ? -1.0f : 1.0f) / static_cast<float>(size * size)};
    const ptrdiff_t group_size = static_cast<ptrdiff_t>(size) * (size + 2) * kGroup;
    memset(prepared, 0,
           static_cast<size_t>(prepared_weight_size(size, channels)) * sizeof(float));
    for (int c = 0; c < channels; ++c) {
        const Channel channel = {weight + 2 * static_cast<ptrdiff_t>(c), size, channels};
        float* to = prepared + c / kGroup * group_size + c % kGroup;
        for (int k = 0; k < size; ++k, to += 4 * kGroup) {
            for (int part = 0; part < 2; ++part) {
                const float first = channel.hermitian(k, 0, part);
                const float last = channel.hermitian(k, size / 2, part);
                to[part * kGroup] = 0.5f * scale[part] * (first + last);
                to[(2 + part) * kGroup] = 0.5f * scale[part] * (first - last);
            }
        }
        for (int column = 1; column < size / 2; ++column) {
            for (int k = 0; k < size; ++k, to += 2 * kGroup) {
                to[0] = scale[0] * channel.at(k, column, 0);
                to[kGroup] = scale[1] * channel.at(k, column, 1);
            }
        }
    }
}

void weight_gradient(const float* sums, int size, int channels, float* gradient) {
    const float scale = 1.0f / static_cast<float>(size * size);
    const ptrdiff_t group_size = static_cast<ptrdiff_t>(size * size + 4) * kGroup;
    for (int c = 0; c < channels; ++c) {
        const auto to = [&](int row, int column) {
            const ptrdiff_t bin = static_cast<ptrdiff_t>(row) * (size / 2 + 1) + column;
            return gradient + (bin * channels + c) * 2;
        };
        const float* from = sums + c / kGroup * group_size + c % kGroup;
        for (int k = 0; k <= size / 2; ++k) {
            for (int column = 0; column <= size / 2; column += size / 2) {
                const float re = 0.25f * scale * from[0], im = 0.25f * scale * from[kGroup];
                float* const mirrored = to((size - k) % size, column);
                mirrored[0] = re;
                mirrored[1] = -im;
                to(k, column)[0] = re;
                to(k, column)[1] = im;
                from += 2 * kGroup;
            }
        }
        for (int column = 1; column < size / 2; ++column) {  // each stands for two bins
            for (int k = 0; k < size; ++k, from += 2 * kGroup) {
                to(k, column)[0] = 2.0f * scale * from[0];
                to(k, column)[1] = 2.0f * scale * from[kGroup];
            }
        }
    }
}

}  // namespace flic::cpu
