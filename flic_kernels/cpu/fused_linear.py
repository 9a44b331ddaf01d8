"""A Linear with what surrounds it, on a CPU: operators around the C++ kernels.

Rows are normalised just before the product that reads them; bias, GELU and residual are its
epilogue. The backward pass recomputes what stands before the GELU and sums the parameters'
gradients in a fixed order; its products are in float32.
"""

from __future__ import annotations

import ctypes
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from ..ops.operators import needs_grad, once_differentiable
from .launch import call, check_tensors, element, operator, threads


class _Shape(ctypes.Structure):
    """Shape in csrc/cpu/fused_linear.cpp."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("outer", "inner", "outer_stride", "inner_stride")),
        *((name, ctypes.c_int32) for name in ("channels", "outputs", "groups", "gelu")),
        ("eps", ctypes.c_float),
    ]


def _two_levels(x: Tensor) -> tuple[int, int, int, int] | None:
    """x's rows as (outer count, inner count, outer stride, inner stride), where they are that.

    Every second pixel of every second line is, for instance.
    """
    if x.stride(-1) != 1:
        return None
    levels: list[tuple[int, int]] = []  # (count, stride), the innermost last
    for count, stride in zip(x.shape[:-1], x.stride()[:-1], strict=True):
        if count == 1:
            continue
        if levels and levels[-1][1] == count * stride:
            levels[-1] = levels[-1][0] * count, stride
        else:
            levels.append((count, stride))
    if len(levels) > 2:
        return None
    (outer, outer_stride), (inner, inner_stride) = [(1, 0), (1, 0), *levels][-2:]
    return outer, inner, outer_stride, inner_stride


def _dense(x: Tensor) -> tuple[int, int, int, int]:
    return 1, prod(x.shape[:-1]), 0, x.shape[-1]


def _shape(rows, weight, gelu, groups, eps) -> _Shape:
    return _Shape(*rows, weight.shape[1], weight.shape[0] // groups, groups, gelu, eps)


def _pointers(*tensors: Tensor | None) -> ctypes.Array:
    """A C structure of pointers, null for None."""
    return (ctypes.c_void_p * len(tensors))(*(t if t is None else t.data_ptr() for t in tensors))


def _wide(*tensors: Tensor | None) -> list[Tensor | None]:
    return [t if t is None else t.float().contiguous() for t in tensors]


def _forward(x, weight, bias, norm_weight, norm_bias, residual, gelu, groups, eps):
    rows = _two_levels(x)
    if rows is None:
        x = x.contiguous()
        rows = _dense(x)
    weight = weight.to(x.dtype).contiguous()
    parameters = _wide(bias, norm_weight, norm_bias)
    residual = None if residual is None else residual.to(x.dtype).contiguous()
    out = _forward_fake(x, weight, *parameters, residual, gelu, groups, eps)
    shape = _shape(rows, weight, gelu, groups, eps)
    native_x = ctypes.c_void_p(x.data_ptr())  # its rows may lie apart
    call(
        "fused_linear", native_x, element(x), ctypes.byref(shape), weight, _pointers(*parameters),
        residual, out, threads(),
    )  # fmt: skip
    return out


def _forward_fake(x, weight, bias, norm_weight, norm_bias, residual, gelu, groups, eps):
    return x.new_empty((*x.shape[:-1], weight.shape[0]))


def _backward(grad, x, weight, bias, norm_weight, norm_bias, gelu, groups, eps):
    x, grad, wide = x.contiguous(), grad.to(x.dtype).contiguous(), weight.float().contiguous()
    parameters = _wide(bias, norm_weight, norm_bias)
    dx, dweight = x.new_empty(x.shape), wide.new_empty(wide.shape)
    dbias = wide.new_empty(weight.shape[0])
    dnorms = [wide.new_zeros(0 if norm_weight is None else x.shape[-1]) for _ in range(2)]
    shape = _shape(_dense(x), wide, gelu, groups, eps)
    call(
        "fused_linear_backward", grad, x, element(x), ctypes.byref(shape), wide,
        _pointers(*parameters), dx, _pointers(dweight, dbias, *dnorms), threads(),
    )  # fmt: skip
    return dx, dweight, dbias, *dnorms


def _backward_fake(grad, x, weight, bias, norm_weight, norm_bias, gelu, groups, eps):
    vector = x.new_empty(weight.shape[0], dtype=torch.float32)
    norm = x.new_empty(0 if norm_weight is None else x.shape[-1], dtype=torch.float32)
    dweight = x.new_empty(weight.shape, dtype=torch.float32)
    return x.new_empty(x.shape), dweight, vector, norm, norm.clone()


_OPERATOR = operator(
    "fused_linear_cpu(Tensor x, Tensor weight, Tensor? bias, Tensor? norm_weight, "
    "Tensor? norm_bias, Tensor? residual, bool gelu, int groups, float eps) -> Tensor",
    _forward,
    _forward_fake,
)
_BACKWARD_OPERATOR = operator(
    "fused_linear_cpu_backward(Tensor grad, Tensor x, Tensor weight, Tensor? bias, "
    "Tensor? norm_weight, Tensor? norm_bias, bool gelu, int groups, float eps)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    _backward,
    _backward_fake,
)


class _FusedLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, norm_weight, norm_bias, residual, gelu, groups, eps):
        ctx.save_for_backward(x, weight, bias, norm_weight, norm_bias)
        ctx.settings = gelu, groups, eps
        ctx.with_residual = residual is not None
        return _OPERATOR(x, weight, bias, norm_weight, norm_bias, residual, gelu, groups, eps)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, *parameters = ctx.saved_tensors
        dx, *found = _BACKWARD_OPERATOR(grad, x, *parameters, *ctx.settings)
        gradients = (
            None if parameter is None else gradient.to(parameter.dtype)
            for gradient, parameter in zip(found, parameters, strict=True)
        )
        return dx, *gradients, grad if ctx.with_residual else None, None, None, None


def fused_linear(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, norm_weight: Tensor | None = None,
    norm_bias: Tensor | None = None, residual: Tensor | None = None, gelu: bool = False,
    groups: int = 1, eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """The contract is that of `flic_kernels.fused_linear`; float32 and bfloat16."""
    check_tensors(x, weight, bias, norm_weight, norm_bias, residual)
    if torch.is_autocast_enabled("cpu"):
        if norm_weight is not None:
            x = F.layer_norm(x, x.shape[-1:], norm_weight, norm_bias, eps)
        x, norm_weight, norm_bias = x.to(torch.get_autocast_dtype("cpu")), None, None
        check_tensors(x)
    tensors = x, weight, bias, norm_weight, norm_bias
    added = residual is not None and residual.dtype != x.dtype  # to a result of the wider type
    compute = _FusedLinear.apply if needs_grad(*tensors, residual) else _OPERATOR
    out = compute(*tensors, None if added else residual, gelu, groups, eps)
    return residual + out if added else out
