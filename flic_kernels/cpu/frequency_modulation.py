"""Frequency modulation on a CPU: operators around the C++ kernels.

A window of 16 channels stays in cache from its real transform along rows to the inverse one; the
residual is added on the way out.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..ops.operators import needs_grad, once_differentiable
from ..ops.registry import NotAvailable
from .launch import call, check_tensors, element, int64, operator, threads

SIZES = (2, 4, 8, 16)


def _sizes(x: Tensor, weight: Tensor) -> tuple:
    batch, height, width, channels = x.shape
    return int64(batch), height, width, channels, weight.shape[0], threads()


def _forward(x, weight, residual):
    x, weight = x.contiguous(), weight.float().contiguous()
    residual = None if residual is None else residual.contiguous()
    out = _forward_fake(x, weight, residual)
    call(
        "frequency_modulation", x, element(x), weight, residual,
        0 if residual is None else element(residual), out, element(out), *_sizes(x, weight),
    )  # fmt: skip
    return out


def _forward_fake(x, weight, residual):
    dtype = x.dtype if residual is None else torch.promote_types(x.dtype, residual.dtype)
    return x.new_empty(x.shape, dtype=dtype)


def _backward(grad, x, weight):
    grad, x, wide = grad.contiguous(), x.contiguous(), weight.float().contiguous()
    dx, dweight = x.new_empty(x.shape), wide.new_empty(wide.shape)
    call(
        "frequency_modulation_backward", grad, element(grad), x, element(x), wide, dx, dweight,
        *_sizes(x, wide),
    )  # fmt: skip
    return dx, dweight.to(weight.dtype)


def _backward_fake(grad, x, weight):
    return x.new_empty(x.shape), weight.new_empty(weight.shape)


_OPERATOR = operator(
    "frequency_modulation_cpu(Tensor x, Tensor weight, Tensor? residual) -> Tensor",
    _forward,
    _forward_fake,
)
_BACKWARD_OPERATOR = operator(
    "frequency_modulation_cpu_backward(Tensor grad, Tensor x, Tensor weight) -> (Tensor, Tensor)",
    _backward,
    _backward_fake,
)


class _FrequencyModulation(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, residual):
        ctx.save_for_backward(x, weight)
        ctx.residual_dtype = None if residual is None else residual.dtype
        return _OPERATOR(x, weight, residual)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        dresidual = None if ctx.residual_dtype is None else grad.to(ctx.residual_dtype)
        return *_BACKWARD_OPERATOR(grad, x, weight), dresidual


def frequency_modulation(x: Tensor, weight: Tensor, *, residual: Tensor | None) -> Tensor:
    """The contract is that of `flic_kernels.frequency_modulation`, for P = 2, 4, 8 and 16."""
    check_tensors(x, weight, residual)
    if weight.shape[0] not in SIZES:
        raise NotAvailable(
            "the C++ frequency modulation takes windows of 2, 4, 8 or 16 pixels, not "
            f"{weight.shape[0]}; impl='reference' takes every even size"
        )
    if needs_grad(x, weight, residual):
        return _FrequencyModulation.apply(x, weight, residual)
    return _OPERATOR(x, weight, residual)
