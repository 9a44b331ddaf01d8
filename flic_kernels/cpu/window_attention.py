"""Window attention of the four branches on a CPU: the C++ kernels.

A thread takes a tile of 2s x 2s tokens, which every branch's windows divide. Keys and values of a
window and head are gathered to lie densely; scores exist for 16 queries at a time, in cache.
"""

from __future__ import annotations

from torch import Tensor

from ..ops.window_attention import allocate
from .launch import call, element, pointers, threads


def _sizes(qkv: Tensor, num_heads: int, window: int, shifted: bool) -> tuple:
    batch, height, width, channels = qkv.shape
    dim = channels // (3 * num_heads)
    return batch, height, width, num_heads, dim, window, shifted, threads()


def forward(qkv, tables, num_heads, window, shifted, with_lse):
    qkv, tables = qkv.contiguous(), [table.float().contiguous() for table in tables]
    out, lse = allocate(qkv, tables, num_heads, window, shifted, with_lse)
    call(
        "window_attention", qkv, element(qkv), pointers(tables), out, lse if with_lse else None,
        *_sizes(qkv, num_heads, window, shifted),
    )  # fmt: skip
    return out, lse


def backward(grad, qkv, tables, out, lse, num_heads, window, shifted):
    grad, qkv = grad.to(qkv.dtype).contiguous(), qkv.contiguous()
    out, lse = out.contiguous(), lse.contiguous()
    wide = [table.float().contiguous() for table in tables]
    dqkv, dtables = qkv.new_empty(qkv.shape), [table.new_empty(table.shape) for table in wide]
    call(
        "window_attention_backward", qkv, element(qkv), pointers(wide), out, lse, grad, dqkv,
        pointers(dtables), *_sizes(qkv, num_heads, window, shifted),
    )  # fmt: skip
    return dqkv, [d.to(table.dtype) for d, table in zip(dtables, tables, strict=True)]
