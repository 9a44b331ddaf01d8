"""The C++ FAT block for CPUs: csrc/cpu/fat_block.cpp."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from .. import native
from ..ops.fat_block import FATParameters, composed
from .launch import check_dtype, needs_grad, operator


class _Shape(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int32) for name in (
            "batch", "height", "width", "channels", "heads", "window", "modulation", "shifted",
        )),
        ("eps", ctypes.c_float),
    ]  # fmt: skip


def _forward(
    x: Tensor, parameters: Sequence[Tensor], num_heads: int, window: int, shifted: bool, eps: float
) -> Tensor:
    x = x.contiguous()
    out = _fake(x, parameters, num_heads, window, shifted, eps)
    products = ("conv1_1_weight", "qkv_weight", "proj_weight", "expand_weight",
                "contract_weight", "conv1_2_weight")  # fmt: skip
    weights = [
        tensor.to(x.dtype if name in products else torch.float32).contiguous()
        for name, tensor in zip(FATParameters._fields, parameters, strict=True)
    ]
    size = FATParameters(*parameters).complex_weight.shape[0]
    native.check(
        native.library().flic_cpu_fat_block(
            native.pointer(x),
            int(x.dtype == torch.bfloat16),
            (ctypes.c_void_p * len(weights))(*(weight.data_ptr() for weight in weights)),
            ctypes.byref(_Shape(*x.shape, num_heads, window, size, shifted, eps)),
            native.pointer(out),
            torch.get_num_threads(),
        ),
        "fat_block",
    )
    return out


def _fake(x, parameters, num_heads, window, shifted, eps):
    return x.new_empty(x.shape)


_OPERATOR = operator(
    "fat_block_cpu(Tensor x, Tensor[] parameters, int num_heads, int window, bool shifted, "
    "float eps) -> Tensor",
    _forward,
    _fake,
)


def fat_block(
    x: Tensor, parameters: Sequence[Tensor], *, num_heads: int, window: int, shifted: bool,
    eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """The contract is that of `flic_kernels.fat_block`.

    Where gradients are wanted, and under autocast, the block is composed of its operations, which
    have gradients.
    """
    check_dtype(x)
    if needs_grad(x, *parameters) or torch.is_autocast_enabled("cpu"):
        return composed(
            x, parameters, num_heads=num_heads, window=window, shifted=shifted, eps=eps, impl="cpu"
        )
    return _OPERATOR(x, list(parameters), num_heads, window, shifted, eps)
