"""Window attention of the four branches on a CPU: operators around the C++ kernels.

A thread takes a tile of 2s x 2s tokens, which every branch's windows divide. Keys and values of a
window and head are gathered to lie densely; scores exist for 16 queries at a time, in cache.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..ops.operators import needs_grad, once_differentiable
from .launch import call, check_tensors, element, int64, operator, pointers, threads


def _sizes(qkv: Tensor, num_heads: int, window: int, shifted: bool) -> tuple:
    batch, height, width, channels = qkv.shape
    dim = channels // (3 * num_heads)
    return int64(batch), height, width, num_heads, dim, window, int(shifted), threads()


def _forward(qkv, tables, num_heads, window, shifted, with_lse):
    qkv, tables = qkv.contiguous(), [table.float().contiguous() for table in tables]
    out, lse = _forward_fake(qkv, tables, num_heads, window, shifted, with_lse)
    call(
        "window_attention", qkv, element(qkv), pointers(tables), out, lse if with_lse else None,
        *_sizes(qkv, num_heads, window, shifted),
    )  # fmt: skip
    return out, lse


def _forward_fake(qkv, tables, num_heads, window, shifted, with_lse):
    batch, height, width, channels = qkv.shape
    out = qkv.new_empty(batch, height, width, channels // 3)
    tokens = batch * height * width if with_lse else 0
    return out, qkv.new_empty(num_heads, tokens, dtype=torch.float32)


def _backward(grad, qkv, tables, out, lse, num_heads, window, shifted):
    grad, qkv = grad.to(qkv.dtype).contiguous(), qkv.contiguous()
    out, lse = out.contiguous(), lse.contiguous()
    wide = [table.float().contiguous() for table in tables]
    dqkv, dtables = qkv.new_empty(qkv.shape), [table.new_empty(table.shape) for table in wide]
    call(
        "window_attention_backward", qkv, element(qkv), pointers(wide), out, lse, grad, dqkv,
        pointers(dtables), *_sizes(qkv, num_heads, window, shifted),
    )  # fmt: skip
    return dqkv, [d.to(table.dtype) for d, table in zip(dtables, tables, strict=True)]


def _backward_fake(grad, qkv, tables, out, lse, num_heads, window, shifted):
    return qkv.new_empty(qkv.shape), [table.new_empty(table.shape) for table in tables]


_OPERATOR = operator(
    "window_attention_cpu(Tensor qkv, Tensor[] tables, int num_heads, int window, bool shifted, "
    "bool with_lse) -> (Tensor, Tensor)",
    _forward,
    _forward_fake,
)
_BACKWARD_OPERATOR = operator(
    "window_attention_cpu_backward(Tensor grad, Tensor qkv, Tensor[] tables, Tensor out, "
    "Tensor lse, int num_heads, int window, bool shifted) -> (Tensor, Tensor[])",
    _backward,
    _backward_fake,
)


class _WindowAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, qkv, num_heads, window, shifted, *tables):
        out, lse = _OPERATOR(qkv, tables, num_heads, window, shifted, True)
        ctx.save_for_backward(qkv, out, lse, *tables)
        ctx.settings = num_heads, window, shifted
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        qkv, out, lse, *tables = ctx.saved_tensors
        dqkv, dtables = _BACKWARD_OPERATOR(grad, qkv, tables, out, lse, *ctx.settings)
        return dqkv, None, None, None, *dtables


def window_attention(
    qkv: Tensor, tables: list[Tensor], *, num_heads: int, window: int, shifted: bool
) -> Tensor:
    """The contract is that of `flic_kernels.window_attention`; float32 and bfloat16."""
    check_tensors(qkv, *tables)
    if needs_grad(qkv, *tables):
        return _WindowAttention.apply(qkv, num_heads, window, shifted, *tables)
    return _OPERATOR(qkv, list(tables), num_heads, window, shifted, False)[0]
