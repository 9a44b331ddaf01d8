"""Frequency modulation on a CPU: the C++ kernels.

A window of 16 channels stays in cache from its real transform along rows to the inverse one; the
residual is added on the way out.
"""

from __future__ import annotations

from torch import Tensor

from ..ops.frequency_modulation import allocate
from ..ops.registry import NotAvailable
from .launch import call, element, threads

SIZES = (2, 4, 8, 16)


def _sizes(x: Tensor, weight: Tensor) -> tuple:
    batch, height, width, channels = x.shape
    return batch, height, width, channels, weight.shape[0], threads()


def forward(x, weight, residual):
    if weight.shape[0] not in SIZES:
        raise NotAvailable(
            "the C++ frequency modulation takes windows of 2, 4, 8 or 16 pixels, not "
            f"{weight.shape[0]}; impl='reference' takes every even size"
        )
    x, weight = x.contiguous(), weight.float().contiguous()
    residual = None if residual is None else residual.contiguous()
    out = allocate(x, weight, residual)
    call(
        "frequency_modulation", x, element(x), weight, residual,
        0 if residual is None else element(residual), out, element(out), *_sizes(x, weight),
    )  # fmt: skip
    return out


def backward(grad, x, weight):
    grad, x, wide = grad.contiguous(), x.contiguous(), weight.float().contiguous()
    dx, dweight = x.new_empty(x.shape), wide.new_empty(wide.shape)
    call(
        "frequency_modulation_backward", grad, element(grad), x, element(x), wide, dx, dweight,
        *_sizes(x, wide),
    )  # fmt: skip
    return dx, dweight.to(weight.dtype)
