"""3x3 convolutions and their epilogues on a CPU: operators around the C++ kernel.

One pass over the image, block by block; a block's results are in cache when GDN takes them. The
backward pass is PyTorch's own convolution.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..ops.conv3x3 import result_shape
from ..ops.operators import needs_grad, once_differentiable
from .gdn import gdn
from .launch import call, check_tensors, element, int64, operator, threads

SLOPE = 0.01  # of the leaky ReLU


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
        x, weight, *out = ctx.saved_tensors
        stride, shuffle = ctx.settings
        if out:  # its sign is that of the leaky ReLU's input
            grad = torch.ops.aten.leaky_relu_backward(grad, out[0], SLOPE, True)
        grad = F.pixel_unshuffle(grad.permute(0, 3, 1, 2), shuffle)
        with_bias = ctx.bias_dtype is not None
        dx, dweight, dbias = torch.ops.aten.convolution_backward(
            grad.contiguous(memory_format=torch.channels_last),
            x.permute(0, 3, 1, 2),
            weight.to(x.dtype),
            [weight.shape[0]] if with_bias else None,
            [stride, stride],
            [1, 1],
            [1, 1],
            False,
            [0, 0],
            1,
            [ctx.needs_input_grad[0], ctx.needs_input_grad[1], with_bias],
        )
        dx = None if dx is None else dx.permute(0, 2, 3, 1)
        dweight = None if dweight is None else dweight.to(weight.dtype)
        dbias = dbias.to(ctx.bias_dtype) if with_bias else None
        return dx, dweight, dbias, None, None, None


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
