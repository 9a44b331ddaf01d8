"""A whole FAT block on a CPU: the operator around csrc/cpu/fat_block.cpp."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from ..ops.fat_block import PRODUCTS, FATParameters, composed
from ..ops.operators import needs_grad
from ..ops.registry import NotAvailable
from .launch import call, check_tensors, element, operator, pointers, threads


class _Shape(ctypes.Structure):
    """Shape in csrc/cpu/fat_block.cpp."""

    _fields_ = [
        *((name, ctypes.c_int32) for name in (
            "batch", "height", "width", "channels", "heads", "window", "modulation", "shifted",
        )),
        ("eps", ctypes.c_float),
    ]  # fmt: skip


def _forward(x, parameters, num_heads, window, shifted, eps):
    x = x.contiguous()
    out = _forward_fake(x, parameters, num_heads, window, shifted, eps)
    weights = [
        tensor.to(x.dtype if name in PRODUCTS else torch.float32).contiguous()
        for name, tensor in zip(FATParameters._fields, parameters, strict=True)
    ]
    size = FATParameters(*parameters).complex_weight.shape[0]
    shape = _Shape(*x.shape, num_heads, window, size, shifted, eps)
    call("cpu_fat_block", x, element(x), pointers(weights), ctypes.byref(shape), out, threads())
    return out


def _forward_fake(x, parameters, num_heads, window, shifted, eps):
    return x.new_empty(x.shape)


_OPERATOR = operator(
    "fat_block_cpu(Tensor x, Tensor[] parameters, int num_heads, int window, bool shifted, "
    "float eps) -> Tensor",
    _forward,
    _forward_fake,
)


def fat_block(
    x: Tensor, parameters: Sequence[Tensor], *, num_heads: int, window: int, shifted: bool,
    eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """The contract is that of `flic_kernels.fat_block`; float32 and bfloat16.

    Where gradients are wanted, and under autocast, the block is composed of its operations.
    """
    check_tensors(x, *parameters)
    settings = {"num_heads": num_heads, "window": window, "shifted": shifted, "eps": eps}
    if needs_grad(x, *parameters) or torch.is_autocast_enabled("cpu"):
        return composed(x, parameters, **settings, impl="cpu")
    size, dim = FATParameters(*parameters).complex_weight.shape[0], x.shape[3] // num_heads
    if size > 16 or size & (size - 1) or max(size, 2 * window) > 32 or dim > 64:
        raise NotAvailable(
            "the C++ FAT block takes modulation windows of 2, 4, 8 and 16, attention windows up to "
            f"16x16 and head dimensions up to 64, not {size}, {2 * window} and {dim}"
        )
    return _OPERATOR(x, list(parameters), num_heads, window, shifted, eps)
