"""The head of a T-CA layer on a CPU: the C++ kernels.

A window of a slice stays in cache from the first normalisation to the result, and on the way back,
which computes it again.
"""

from __future__ import annotations

from ..ops.operators import gradients_like
from ..ops.positional_encoding import allocate, allocate_backward
from .launch import call, element, pointers, threads


def forward(u, parameters, slices, window, eps):
    u, wide = u.contiguous(), [t.float().contiguous() for t in parameters]
    out = allocate(u, wide, slices, window, eps)
    batch, height, width, channels = u.shape
    call(
        "positional_encoding", u, element(u), batch, height, width, channels,
        pointers(wide), slices, window, eps, out, threads(),
    )  # fmt: skip
    return out


def backward(grad, u, parameters, slices, window, eps):
    u, wide = u.contiguous(), [t.float().contiguous() for t in parameters]
    grad = grad.to(u.dtype).contiguous()
    du, *gradients = allocate_backward(grad, u, wide, slices, window, eps)
    batch, height, width, channels = u.shape
    call(
        "positional_encoding_backward", grad, u, element(u), batch, height, width, channels,
        pointers(wide), slices, window, eps, du, pointers(gradients), threads(),
    )  # fmt: skip
    return [du, *gradients_like(parameters, gradients)]
