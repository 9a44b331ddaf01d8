"""A whole FAT block on a CPU: the operators around csrc/cpu/fat_block/ and its backward pass.

Between the two a block keeps its input and its attention's results.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from ..ops.fat_block import PRODUCTS, FATParameters, composed
from ..ops.operators import needs_grad, once_differentiable
from ..ops.registry import NotAvailable
from .launch import call, check_tensors, element, operator, pointers, threads


class _Shape(ctypes.Structure):
    """FATShape in csrc/cpu/fat_block/fat_block.h."""

    _fields_ = [
        *((name, ctypes.c_int32) for name in (
            "batch", "height", "width", "channels", "heads", "window", "modulation", "shifted",
        )),
        ("eps", ctypes.c_float),
    ]  # fmt: skip


def _shape(x, parameters, num_heads, window, shifted, eps) -> _Shape:
    size = FATParameters(*parameters).complex_weight.shape[0]
    return _Shape(*x.shape, num_heads, window, size, shifted, eps)


def _forward(x, parameters, num_heads, window, shifted, eps, keep):
    x = x.contiguous()
    out, attended, lse = _forward_fake(x, parameters, num_heads, window, shifted, eps, keep)
    weights = [
        tensor.to(x.dtype if name in PRODUCTS else torch.float32).contiguous()
        for name, tensor in zip(FATParameters._fields, parameters, strict=True)
    ]
    shape = _shape(x, parameters, num_heads, window, shifted, eps)
    kept = (attended, lse) if keep else (None, None)
    call(
        "cpu_fat_block", x, element(x), pointers(weights), ctypes.byref(shape), out, *kept,
        threads(),
    )  # fmt: skip
    return out, attended, lse


def _forward_fake(x, parameters, num_heads, window, shifted, eps, keep):
    tokens = x.numel() // x.shape[3] if keep else 0
    return (
        x.new_empty(x.shape),
        x.new_empty(x.shape if keep else 0),
        x.new_empty(num_heads, tokens, dtype=torch.float32),
    )


_OPERATOR = operator(
    "fat_block_cpu(Tensor x, Tensor[] parameters, int num_heads, int window, bool shifted, "
    "float eps, bool keep) -> (Tensor, Tensor, Tensor)",
    _forward,
    _forward_fake,
)


def _backward(grad, x, attended, lse, parameters, num_heads, window, shifted, eps):
    x, grad = x.contiguous(), grad.to(x.dtype).contiguous()
    weights = [
        (tensor.to(x.dtype) if name in PRODUCTS else tensor).float().contiguous()
        for name, tensor in zip(FATParameters._fields, parameters, strict=True)
    ]
    dx, *gradients = _backward_fake(
        grad, x, attended, lse, weights, num_heads, window, shifted, eps
    )
    shape = _shape(x, parameters, num_heads, window, shifted, eps)
    call(
        "cpu_fat_block_backward", grad, x, attended.contiguous(), lse.contiguous(), element(x),
        pointers(weights), ctypes.byref(shape), dx, pointers(gradients), threads(),
    )  # fmt: skip
    return [dx, *gradients]


def _backward_fake(grad, x, attended, lse, parameters, num_heads, window, shifted, eps):
    return [
        x.new_empty(x.shape),
        *(x.new_empty(tensor.shape, dtype=torch.float32) for tensor in parameters),
    ]


_BACKWARD_OPERATOR = operator(
    "fat_block_cpu_backward(Tensor grad, Tensor x, Tensor attended, Tensor lse, "
    "Tensor[] parameters, int num_heads, int window, bool shifted, float eps) -> Tensor[]",
    _backward,
    _backward_fake,
)


class _FATBlock(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, num_heads, window, shifted, eps, *parameters):
        ctx.settings = num_heads, window, shifted, eps
        out, attended, lse = _OPERATOR(x, parameters, *ctx.settings, True)
        ctx.save_for_backward(x, attended, lse, *parameters)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, attended, lse, *parameters = ctx.saved_tensors
        dx, *found = _BACKWARD_OPERATOR(grad, x, attended, lse, parameters, *ctx.settings)
        gradients = (g.to(p.dtype) for g, p in zip(found, parameters, strict=True))
        return dx, None, None, None, None, *gradients


def fat_block(
    x: Tensor, parameters: Sequence[Tensor], *, num_heads: int, window: int, shifted: bool,
    eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """The contract is that of `flic_kernels.fat_block`; float32 and bfloat16.

    Under autocast the block is composed of its operations.
    """
    check_tensors(x, *parameters)
    settings = {"num_heads": num_heads, "window": window, "shifted": shifted, "eps": eps}
    if torch.is_autocast_enabled("cpu"):
        return composed(x, parameters, **settings, impl="cpu")
    size, dim = FATParameters(*parameters).complex_weight.shape[0], x.shape[3] // num_heads
    if size > 16 or size & (size - 1) or max(size, 2 * window) > 32 or dim > 64:
        raise NotAvailable(
            "the C++ FAT block takes modulation windows of 2, 4, 8 and 16, attention windows up to "
            f"16x16 and head dimensions up to 64, not {size}, {2 * window} and {dim}"
        )
    if needs_grad(x, *parameters):
        return _FATBlock.apply(x, num_heads, window, shifted, eps, *parameters)
    return _OPERATOR(x, list(parameters), num_heads, window, shifted, eps, False)[0]
