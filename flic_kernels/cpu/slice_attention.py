"""Attention among T-CA's slices on a CPU: operators around the C++ kernels.

Heads are the lanes: channel = heads x token + head, so sixteen heads lie side by side in memory.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..ops.operators import needs_grad, once_differentiable
from .launch import call, check_tensors, element, int64, operator, threads


def _sizes(q: Tensor, slices: int, heads: int) -> tuple:
    windows, positions, channels = q.shape
    return int64(windows), positions, heads, slices, channels // heads, threads()


def _forward(q, k, v, slices, heads, with_lse):
    q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
    out, lse = _forward_fake(q, k, v, slices, heads, with_lse)
    call(
        "slice_attention", q, k, v, element(q), out, lse if with_lse else None,
        *_sizes(q, slices, heads),
    )  # fmt: skip
    return out, lse


def _forward_fake(q, k, v, slices, heads, with_lse):
    windows, _, channels = q.shape
    lse = q.new_empty(windows if with_lse else 0, channels, dtype=torch.float32)
    return q.new_empty(q.shape), lse


def _backward(grad, q, k, v, out, lse, slices, heads):
    q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
    grad, out, lse = grad.to(q.dtype).contiguous(), out.contiguous(), lse.contiguous()
    gradients = _backward_fake(grad, q, k, v, out, lse, slices, heads)
    call(
        "slice_attention_backward", q, k, v, element(q), out, lse, grad, *gradients,
        *_sizes(q, slices, heads),
    )  # fmt: skip
    return gradients


def _backward_fake(grad, q, k, v, out, lse, slices, heads):
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


_OPERATOR = operator(
    "slice_attention_cpu(Tensor q, Tensor k, Tensor v, int slices, int heads, bool with_lse) "
    "-> (Tensor, Tensor)",
    _forward,
    _forward_fake,
)
_BACKWARD_OPERATOR = operator(
    "slice_attention_cpu_backward(Tensor grad, Tensor q, Tensor k, Tensor v, Tensor out, "
    "Tensor lse, int slices, int heads) -> (Tensor, Tensor, Tensor)",
    _backward,
    _backward_fake,
)


class _SliceAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v, slices, heads):
        out, lse = _OPERATOR(q, k, v, slices, heads, True)
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.settings = slices, heads
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        return *_BACKWARD_OPERATOR(grad, *ctx.saved_tensors, *ctx.settings), None, None


def slice_attention(q: Tensor, k: Tensor, v: Tensor, *, slices: int, heads: int) -> Tensor:
    """The contract is that of `flic_kernels.slice_attention`; float32 and bfloat16."""
    check_tensors(q, k, v)
    if needs_grad(q, k, v):
        return _SliceAttention.apply(q, k, v, slices, heads)
    return _OPERATOR(q, k, v, slices, heads, False)[0]
