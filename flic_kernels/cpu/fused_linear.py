"""A Linear with what surrounds it, on a CPU: the C++ kernels.

Rows are normalised just before the product that reads them; bias, GELU and residual are its
epilogue. The backward pass recomputes what stands before the GELU and sums the parameters'
gradients in a fixed order; its products are in float32.
"""

from __future__ import annotations

import ctypes
from math import prod

from torch import Tensor

from .. import interface
from ..ops.fused_linear import allocate
from ..ops.operators import gradients_like
from .launch import call, element, threads

_Shape = interface.structure("FlicLinearShape")


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


def _structure(name: str, *tensors: Tensor | None):
    """A C structure of pointers, null for None; the caller keeps the tensors alive."""
    return ctypes.byref(
        interface.structure(name)(*(t if t is None else t.data_ptr() for t in tensors))
    )


def _wide(*tensors: Tensor | None) -> list[Tensor | None]:
    return [t if t is None else t.float().contiguous() for t in tensors]


def forward(x, weight, bias, norm_weight, norm_bias, residual, gelu, groups, eps):
    rows = _two_levels(x)
    if rows is None:
        x = x.contiguous()
        rows = _dense(x)
    if residual is not None and residual.dtype != x.dtype:  # added to a result of the wider type
        return residual + forward(x, weight, bias, norm_weight, norm_bias, None, gelu, groups, eps)
    weight = weight.to(x.dtype).contiguous()
    parameters = _wide(bias, norm_weight, norm_bias)
    residual = None if residual is None else residual.contiguous()
    out = allocate(x, weight, *parameters, residual, gelu, groups, eps)
    shape = _shape(rows, weight, gelu, groups, eps)
    given = _structure("FlicLinearParameters", *parameters)
    native_x = ctypes.c_void_p(x.data_ptr())  # its rows may lie apart
    call(
        "fused_linear", native_x, element(x), ctypes.byref(shape), weight, given,
        residual, out, threads(),
    )  # fmt: skip
    return out


def backward(grad, x, weight, bias, norm_weight, norm_bias, gelu, groups, eps, with_parameters):
    x, grad, wide = x.contiguous(), grad.to(x.dtype).contiguous(), weight.float().contiguous()
    parameters = _wide(bias, norm_weight, norm_bias)
    dx, gradients = x.new_empty(x.shape), [None] * 4
    if with_parameters:
        dnorms = [wide.new_zeros(0 if norm_weight is None else x.shape[-1]) for _ in range(2)]
        gradients = [wide.new_empty(wide.shape), wide.new_empty(weight.shape[0]), *dnorms]
    shape = _shape(_dense(x), wide, gelu, groups, eps)
    given = _structure("FlicLinearParameters", *parameters)
    wanted = _structure("FlicLinearGradients", *gradients)
    call(
        "fused_linear_backward", grad, x, element(x), ctypes.byref(shape), wide,
        given, dx, wanted, threads(),
    )  # fmt: skip
    if not with_parameters:
        return [dx]
    return [dx, *gradients_like((weight, bias, norm_weight, norm_bias), gradients)]
