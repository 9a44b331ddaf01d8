"""The head of a T-CA layer on a CPU: operators around the C++ kernel.

A window of a slice stays in cache from the first normalisation to the result, and on the way back,
which computes it again.
"""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from ..ops.operators import needs_grad, once_differentiable
from .launch import call, check_tensors, element, int64, operator, pointers, threads


def _forward(u, parameters, slices, window, eps):
    u, wide = u.contiguous(), [t.float().contiguous() for t in parameters]
    out = _fake(u, wide, slices, window, eps)
    batch, height, width, channels = u.shape
    call(
        "positional_encoding", u, element(u), int64(batch), height, width, channels,
        pointers(wide), slices, window, ctypes.c_float(eps), out, threads(),
    )  # fmt: skip
    return out


def _fake(u, parameters, slices, window, eps):
    batch, height, width, channels = u.shape
    return u.new_empty(batch * (height // window) * (width // window), window * window, channels)


_OPERATOR = operator(
    "positional_encoding_cpu(Tensor u, Tensor[] parameters, int slices, int window, float eps)"
    " -> Tensor",
    _forward,
    _fake,
)


def _backward(grad, u, parameters, slices, window, eps):
    u, wide = u.contiguous(), [t.float().contiguous() for t in parameters]
    grad = grad.to(u.dtype).contiguous()
    du, *gradients = _backward_fake(grad, u, wide, slices, window, eps)
    batch, height, width, channels = u.shape
    call(
        "positional_encoding_backward", grad, u, element(u), int64(batch), height, width, channels,
        pointers(wide), slices, window, ctypes.c_float(eps), du, pointers(gradients), threads(),
    )  # fmt: skip
    return [du, *gradients]


def _backward_fake(grad, u, parameters, slices, window, eps):
    wide = (t.new_empty(t.shape, dtype=torch.float32) for t in parameters)
    return [u.new_empty(u.shape), *wide]


_BACKWARD_OPERATOR = operator(
    "positional_encoding_cpu_backward(Tensor grad, Tensor u, Tensor[] parameters, int slices, "
    "int window, float eps) -> Tensor[]",
    _backward,
    _backward_fake,
)


class _PositionalEncoding(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u, slices, window, eps, *parameters):
        ctx.save_for_backward(u, *parameters)
        ctx.settings = slices, window, eps
        return _OPERATOR(u, parameters, slices, window, eps)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        u, *parameters = ctx.saved_tensors
        du, *found = _BACKWARD_OPERATOR(grad, u, parameters, *ctx.settings)
        gradients = (g.to(p.dtype) for g, p in zip(found, parameters, strict=True))
        return du, None, None, None, *gradients


def positional_encoding(
    u: Tensor, norm1_weight: Tensor, norm1_bias: Tensor, conv_weight: Tensor, conv_bias: Tensor,
    norm2_weight: Tensor, norm2_bias: Tensor, *, slices: int, window: int = 8, eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """The contract is that of `flic_kernels.positional_encoding`; float32 and bfloat16."""
    parameters = [norm1_weight, norm1_bias, conv_weight, conv_bias, norm2_weight, norm2_bias]
    check_tensors(u, *parameters)
    if needs_grad(u, *parameters):
        return _PositionalEncoding.apply(u, slices, window, eps, *parameters)
    return _OPERATOR(u, parameters, slices, window, eps)
