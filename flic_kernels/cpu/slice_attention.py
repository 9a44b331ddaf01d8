"""Attention among T-CA's slices on a CPU: the C++ kernels.

Heads are the lanes: channel = heads x token + head, so sixteen heads lie side by side in memory.
"""

from __future__ import annotations

from torch import Tensor

from ..ops.slice_attention import allocate, allocate_backward
from .launch import call, element, threads


def _sizes(q: Tensor, slices: int, heads: int) -> tuple:
    windows, positions, channels = q.shape
    return windows, positions, heads, slices, channels // heads, threads()


def forward(q, k, v, slices, heads, with_lse):
    q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
    out, lse = allocate(q, k, v, slices, heads, with_lse)
    call(
        "slice_attention", q, k, v, element(q), out, lse if with_lse else None,
        *_sizes(q, slices, heads),
    )  # fmt: skip
    return out, lse


def backward(grad, q, k, v, out, lse, slices, heads):
    q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
    grad, out, lse = grad.to(q.dtype).contiguous(), out.contiguous(), lse.contiguous()
    gradients = allocate_backward(grad, q, k, v, out, lse, slices, heads)
    call(
        "slice_attention_backward", q, k, v, element(q), out, lse, grad, *gradients,
        *_sizes(q, slices, heads),
    )  # fmt: skip
    return gradients
