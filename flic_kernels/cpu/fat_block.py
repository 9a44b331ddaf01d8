"""A whole FAT block on a CPU: the C++ kernels, forward and backward.

Between the two a block keeps its input and its attention's results.
"""

from __future__ import annotations

import ctypes

import torch

from .. import interface
from ..ops.fat_block import PRODUCTS, FATParameters, allocate, allocate_backward
from ..ops.operators import gradients_like
from ..ops.registry import NotAvailable
from .launch import call, dense, element, pointers, threads

_Shape = interface.structure("FlicFatShape")


def _shape(x, parameters, num_heads, window, shifted, eps) -> _Shape:
    size = FATParameters(*parameters).complex_weight.shape[0]
    return _Shape(*x.shape, num_heads, window, size, shifted, eps)


def forward(x, parameters, num_heads, window, shifted, eps, keep):
    size, dim = FATParameters(*parameters).complex_weight.shape[0], x.shape[3] // num_heads
    if size > 16 or size & (size - 1) or max(size, 2 * window) > 32 or dim > 64:
        raise NotAvailable(
            "the C++ FAT block takes modulation windows of 2, 4, 8 and 16, attention windows up to "
            f"16x16 and head dimensions up to 64, not {size}, {2 * window} and {dim}"
        )
    x = x.contiguous()
    out, attended, lse = allocate(x, parameters, num_heads, window, shifted, eps, keep)
    weights = [
        dense(tensor, x.dtype if name in PRODUCTS else torch.float32)
        for name, tensor in zip(FATParameters._fields, parameters, strict=True)
    ]
    shape = _shape(x, parameters, num_heads, window, shifted, eps)
    kept = (attended, lse) if keep else (None, None)
    call(
        "fat_block", x, element(x), pointers(weights), ctypes.byref(shape), out, *kept,
        threads(),
    )  # fmt: skip
    return out, attended, lse


def backward(grad, x, attended, lse, parameters, num_heads, window, shifted, eps, with_parameters):
    x, grad = x.contiguous(), grad.to(x.dtype).contiguous()
    weights = [
        dense(dense(tensor, x.dtype) if name in PRODUCTS else tensor, torch.float32)
        for name, tensor in zip(FATParameters._fields, parameters, strict=True)
    ]
    dx, *gradients = allocate_backward(
        grad, x, attended, lse, weights, num_heads, window, shifted, eps, with_parameters
    )
    wanted = pointers(gradients) if with_parameters else None
    shape = _shape(x, parameters, num_heads, window, shifted, eps)
    call(
        "fat_block_backward", grad, x, attended.contiguous(), lse.contiguous(), element(x),
        pointers(weights), ctypes.byref(shape), dx, wanted, threads(),
    )  # fmt: skip
    return [dx, *gradients_like(parameters, gradients)] if with_parameters else [dx]
