// What window attention's callers prepare, and the choice of instruction set.
#include "attention.h"

#include "../isa.h"

namespace flic::cpu {

AttentionBranch attention_branch(int b, int window, bool shifted, int heads, int dim) {
    const int length = 2 * window, part = window / 2;
    const int heights[kBranches] = {length, part, part, length};
    const int widths[kBranches] = {length, part, length, part};
    AttentionBranch branch = {};
    branch.window_height = heights[b];
    branch.window_width = widths[b];
    branch.heads = heads / kBranches;
    branch.dim = dim;
    if (shifted) {  // windows 1 wide move by one and are not put back: the checkpoints want it
        branch.look_y = (heights[b] + 1) / 2;
        branch.look_x = (widths[b] + 1) / 2;
        branch.put_y = heights[b] / 2;
        branch.put_x = widths[b] / 2;
    }
    return branch;
}

void prepare_bias(const AttentionBranch& branch, const float* table, float* bias) {
    constexpr float kLog2E = 1.44269504f;
    const int height = branch.window_height, width = branch.window_width, keys = branch.keys();
    const int row = 2 * width - 1;
    for (int head = 0; head < branch.heads; ++head) {
        if (branch.bias_from_table()) {
            for (ptrdiff_t r = 0; r < branch.table_rows(); ++r) {
                *bias++ = kLog2E * table[r * branch.heads + head];
            }
            continue;
        }
        for (int strip = 0; strip < branch.strips(); ++strip) {
            for (int j = 0; j < keys; ++j) {
                for (int lane = 0; lane < kStrip; ++lane) {
                    const int i = strip * kStrip + lane;
                    const int dy = i / width - j / width + height - 1;
                    const ptrdiff_t r = static_cast<ptrdiff_t>(dy) * row + i % width - j % width +
                                        width - 1;
                    *bias++ = i < keys ? kLog2E * table[r * branch.heads + head] : 0.0f;
                }
            }
        }
    }
}

ptrdiff_t attention_scratch(const AttentionBranch& branch) {
    const ptrdiff_t keys = branch.keys(), padded = (keys + 3) / 4 * 4;
    return (4 + 2 * branch.dim) * padded + keys * kStrip + kStrip * kStrip;
}

const AttentionKernels& attention_kernels() {
#if defined(__x86_64__)
    if (isa() == Isa::avx512) return kAttentionAvx512;
    if (isa() == Isa::avx2) return kAttentionAvx2;
#endif
    return kAttentionScalar;
}

}  // namespace flic::cpu
