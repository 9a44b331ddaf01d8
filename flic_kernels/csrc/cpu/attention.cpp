// What window attention's callers prepare, and the choice of instruction set.
#include "attention.h"

#include <string.h>

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

namespace {

// visit(place in the bias of all heads, place in the table) for every element of the bias that
// stands for a query.
template <class Visit>
void for_bias(const AttentionBranch& branch, const Visit& visit) {
    const int height = branch.window_height, width = branch.window_width, keys = branch.keys();
    const int row = 2 * width - 1;
    for (int head = 0; head < branch.heads; ++head) {
        const ptrdiff_t first = head * branch.bias_size();
        if (branch.bias_from_table()) {
            for (ptrdiff_t r = 0; r < branch.table_rows(); ++r) {
                visit(first + r, r * branch.heads + head);
            }
            continue;
        }
        for (int i = 0; i < keys; ++i) {
            const ptrdiff_t strip = first + i / kStrip * static_cast<ptrdiff_t>(keys) * kStrip;
            for (int j = 0; j < keys; ++j) {
                const ptrdiff_t dy = i / width - j / width + height - 1;
                const ptrdiff_t dx = i % width - j % width + width - 1;
                visit(strip + static_cast<ptrdiff_t>(j) * kStrip + i % kStrip,
                      (dy * row + dx) * branch.heads + head);
            }
        }
    }
}

}  // namespace

void prepare_bias(const AttentionBranch& branch, const float* table, float* bias) {
    constexpr float kLog2E = 1.44269504f;
    memset(bias, 0, static_cast<size_t>(branch.heads * branch.bias_size()) * sizeof(float));
    for_bias(branch, [&](ptrdiff_t i, ptrdiff_t r) { bias[i] = kLog2E * table[r]; });
}

void gather_bias_gradient(const AttentionBranch& branch, const float* dbias, float* dtable) {
    memset(dtable, 0,
           static_cast<size_t>(branch.heads * branch.table_rows()) * sizeof(float));
    for_bias(branch, [&](ptrdiff_t i, ptrdiff_t r) { dtable[r] += dbias[i]; });
}

ptrdiff_t attention_scratch(const AttentionBranch& branch) {
    return 4 * branch.padded_keys() + 3 * branch.gathered_size() +
           kMostStripsTogether * kStrip * (branch.keys() + kStrip);
}

ptrdiff_t attention_backward_scratch(const AttentionBranch& branch) {
    return 4 * branch.padded_keys() + 5 * branch.gathered_size() +
           2 * branch.keys() * branch.padded_dim() +
           2 * kMostStripsTogether * kStrip * (branch.keys() + branch.padded_dim());
}

const AttentionKernels& attention_kernels() {
#if defined(__x86_64__)
    if (isa() == Isa::avx512) return kAttentionAvx512;
    if (isa() == Isa::avx2) return kAttentionAvx2;
#endif
    return kAttentionScalar;
}

}  // namespace flic::cpu
