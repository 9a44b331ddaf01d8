"""3x3 convolutions and their epilogues on a CPU: operators around the C++ kernel.

One pass over the image, block by block; a block's results are in cache when GDN takes them. The
backward pass takes the leaky ReLU and the shuffle back and sums the weight's gradient, in float32,
in a fixed order.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..ops.conv3x3 import result_shape
from ..ops.operators import needs_grad, once_differentiable
from .gdn import gdn
from .launch import call, check_tensors, element, int64, operator, threads


def _forward(x, weight, bias, gamma, beta, residual, stride, leaky, shuffle, inverse):
    x, weight = x.contiguous(), weight.to(x.dtype).contiguous()
    bias, gamma, beta = (t if t is None else t.float().contiguous() for t in (bias, gamma, beta))
    residual = None if residual is None else residual.to(x.dtype).contiguous()
    settings = stride, leaky, shuffle, inverse
    out = _fake(x, weight, bias, gamma, beta, residual, *settings)
    batch, height, width, channels = x.shape
    call(
        "conv3x3", x, element(x), int64(batch), height, width, channels, weight, bias,
        weight.shape[0], stride, int(leaky), shuffle, gamma, beta, int(inverse), residual, out,
        threads(),
    )  # fmt: skip
    return out


def _fake(x, weight, bias, gamma, beta, residual, stride, leaky, shuffle, inverse):
    return x.new_empty(result_shape(x, weight, stride, shuffle))


_OPERATOR = operator(
    "conv3x3_cpu(Tensor x, Tensor weight, Tensor? bias, Tensor? gamma, Tensor? beta, "
    "Tensor? residual, int stride, bool leaky, int shuffle, bool inverse) -> Tensor",
    _forward,
    _fake,
)


def _backward(grad, out, x, weight, stride, shuffle, with_dx):
    x, weight = x.contiguous(), weight.to(x.dtype).contiguous()
    grad = grad.to(x.dtype).contiguous()
    dx, dweight, dbias = _backward_fake(grad, out, x, weight, stride, shuffle, with_dx)
    batch, height, width, channels = x.shape
    call(
        "conv3x3_backward", grad, out, x, element(x), int64(batch), height, width, channels, weight,
        weight.shape[0], stride, shuffle, dx if with_dx else None, dweight, dbias, threads(),
    )  # fmt: skip
    return dx, dweight, dbias


def _backward_fake(grad, out, x, weight, stride, shuffle, with_dx):
    dweight = x.new_empty(weight.shape, dtype=torch.float32)
    dbias = x.new_empty(weight.shape[0], dtype=torch.float32)
    return x.new_empty(x.shape if with_dx else 0), dweight, dbias


_BACKWARD_OPERATOR = operator(
    "conv3x3_cpu_backward(Tensor grad, Tensor? out, Tensor x, Tensor weight, int stride, "
    "int shuffle, bool with_dx) -> (Tensor, Tensor, Tensor)",
    _backward,
    _backward_fake,
)


class _Convolution(torch.autograd.Function):
    """Convolution, leaky ReLU and shuffle."""

    @staticmethod
    def forward(ctx, x, weight, bias, stride, leaky, shuffle):
        out = _OPERATOR(x, weight, bias, None, None, None, stride, leaky, shuffle, False)
        ctx.save_for_backward(x, weight, *((out,) if leaky else ()))
        ctx.bias_dtype = None if bias is None else bias.dtype
        ctx.settings = stride, shuffle
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, weight, *out = ctx.saved_tensors  # the sign of out is that of the leaky ReLU's input
        dx, dweight, dbias = _BACKWARD_OPERATOR(
            grad, out[0] if out else None, x, weight, *ctx.settings, ctx.needs_input_grad[0]
        )
        dx = dx if ctx.needs_input_grad[0] else None
        dbias = None if ctx.bias_dtype is None else dbias.to(ctx.bias_dtype)
        return dx, dweight.to(weight.dtype), dbias, None, None, None


def conv3x3(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, stride: int = 1,
    leaky: bool = False, shuffle: int = 1, gamma: Tensor | None = None, beta: Tensor | None = None,
    inverse: bool = False, residual: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The contract is that of `flic_kernels.conv3x3`; float32 and bfloat16."""
    check_tensors(x, weight, bias, gamma, beta, residual)
    if torch.is_autocast_enabled("cpu"):
        x = x.to(torch.get_autocast_dtype("cpu"))
        check_tensors(x)
    if needs_grad(x, weight, bias, gamma, beta, residual):
        out = _Convolution.apply(x, weight, bias, stride, leaky, shuffle)
        if gamma is not None:
            return gdn(out, gamma, beta, inverse=inverse, residual=residual)
        return out if residual is None else residual + out
    added = residual is not None and residual.dtype != x.dtype  # to a wider result
    out = _OPERATOR(
        x, weight, bias, gamma, beta, None if added else residual, stride, leaky, shuffle, inverse
    )
    return residual + out if added else out
