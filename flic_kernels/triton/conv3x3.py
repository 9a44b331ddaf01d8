"""3x3 convolutions and their epilogues on a GPU: cuDNN's convolution and the Triton kernel of GDN.

PyTorch lets cuDNN multiply float32 in TF32, with 10 bits of mantissa, unless it is told otherwise.
Here float32 means float32: the operators say so around each call, forward and backward.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

from ..ops.operators import needs_grad, once_differentiable
from .gdn import gdn
from .launch import check_dtype, operator


@contextmanager
def full_float32() -> Iterator[None]:
    """cuDNN's float32 convolutions multiply in float32 inside a `with` block, process-wide."""
    settings = torch.backends.cudnn.conv
    before = settings.fp32_precision
    settings.fp32_precision = "ieee"
    try:
        yield
    finally:
        settings.fp32_precision = before


def _forward(x, weight, bias, stride):
    with full_float32():
        out = F.conv2d(x.permute(0, 3, 1, 2), weight, bias, stride=stride, padding=1)
    return out.permute(0, 2, 3, 1).contiguous()


def _forward_fake(x, weight, bias, stride):
    batch, height, width, _ = x.shape
    lengths = ((length - 1) // stride + 1 for length in (height, width))
    return x.new_empty(batch, *lengths, weight.shape[0])


def _backward(grad, x, weight, stride):
    grad = grad.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
    with full_float32():
        dx, dweight, dbias = torch.ops.aten.convolution_backward(
            grad, x.permute(0, 3, 1, 2), weight, [weight.shape[0]], [stride, stride], [1, 1],
            [1, 1], False, [0, 0], 1, [True, True, True],
        )  # fmt: skip
    return dx.permute(0, 2, 3, 1).contiguous(), dweight.contiguous(), dbias


def _backward_fake(grad, x, weight, stride):
    return x.new_empty(x.shape), weight.new_empty(weight.shape), weight.new_empty(weight.shape[0])


_OPERATOR = operator(
    "conv3x3_cudnn(Tensor x, Tensor weight, Tensor? bias, int stride) -> Tensor",
    _forward,
    _forward_fake,
)
_BACKWARD_OPERATOR = operator(
    "conv3x3_cudnn_backward(Tensor grad, Tensor x, Tensor weight, int stride) "
    "-> (Tensor, Tensor, Tensor)",
    _backward,
    _backward_fake,
)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, stride):
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.with_bias = stride, bias is not None
        return _OPERATOR(x, weight, bias, stride)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        dx, dweight, dbias = _BACKWARD_OPERATOR(grad, *ctx.saved_tensors, ctx.stride)
        return dx, dweight, dbias if ctx.with_bias else None, None


def conv3x3(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, stride: int = 1,
    leaky: bool = False, shuffle: int = 1, gamma: Tensor | None = None, beta: Tensor | None = None,
    inverse: bool = False, residual: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The contract is that of `flic_kernels.conv3x3`."""
    check_dtype(x)
    if torch.is_autocast_enabled(x.device.type):
        x = x.to(torch.get_autocast_dtype(x.device.type))
    weight, bias = weight.to(x.dtype), None if bias is None else bias.to(x.dtype)
    compute = _Convolution.apply if needs_grad(x, weight, bias) else _OPERATOR
    out = compute(x, weight, bias, stride)
    out = F.leaky_relu(out) if leaky else out
    if shuffle > 1:
        out = F.pixel_shuffle(out.permute(0, 3, 1, 2), shuffle).permute(0, 2, 3, 1)
    if gamma is not None:
        return gdn(out, gamma, beta, inverse=inverse, residual=residual)
    return out if residual is None else residual + out
