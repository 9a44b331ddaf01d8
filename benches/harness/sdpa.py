"""What PyTorch's fused attention, with a mask, can serve: the rival of this package's."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from flic_kernels.ops.window_attention import (
    BRANCHES,
    branch_shifts,
    branch_windows,
    relative_position_index,
)


def window_attention(
    qkv: Tensor, tables: Sequence[Tensor], *, num_heads: int, window: int, shifted: bool
) -> Tensor:
    """The operation of that name, with the bias as the mask."""
    quarter, heads = qkv.shape[3] // (3 * BRANCHES), num_heads // BRANCHES
    outputs = []
    for branch, (size, table) in enumerate(zip(branch_windows(window), tables, strict=True)):
        before, after = branch_shifts(*size) if shifted else ((0, 0), (0, 0))
        x = qkv.unflatten(3, (3, BRANCHES, quarter))[..., branch, :]
        x = x.roll((-before[0], -before[1]), (1, 2)) if shifted else x
        (batch, height, width, _, _), (wh, ww) = x.shape, size
        rows, columns = height // wh, width // ww
        x = x.reshape(batch, rows, wh, columns, ww, 3, heads, -1)
        q, k, v = x.permute(5, 0, 1, 3, 6, 2, 4, 7).reshape(3, -1, heads, wh * ww, quarter // heads)
        bias = table[relative_position_index(wh, ww, table.device)].permute(2, 0, 1)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
        out = out.reshape(batch, rows, columns, heads, wh, ww, -1).permute(0, 1, 4, 2, 5, 3, 6)
        out = out.reshape(batch, height, width, quarter)
        outputs.append(out.roll(after, (1, 2)) if shifted else out)
    return torch.cat(outputs, dim=3)


def slice_attention(q: Tensor, k: Tensor, v: Tensor, *, slices: int, heads: int) -> Tensor:
    """The operation of that name, with the order of the slices as the mask."""
    tokens = q.shape[2] // heads
    q, k, v = (x.unflatten(2, (tokens, heads)).permute(0, 3, 2, 1) for x in (q, k, v))
    of_slice = torch.arange(tokens, device=q.device) // (tokens // slices)
    seen = of_slice[:, None] >= of_slice[None, :]
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=tokens**-0.5)
    return out.permute(0, 3, 2, 1).flatten(2)


SERVES: dict[str, Callable] = {
    "window_attention": window_attention,
    "slice_attention": slice_attention,
}
