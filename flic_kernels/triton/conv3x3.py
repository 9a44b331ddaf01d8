"""3x3 convolutions and their epilogues on a GPU: cuDNN's convolution and the Triton kernel of GDN.

PyTorch lets cuDNN multiply float32 in TF32, with 10 bits of mantissa, unless it is told otherwise.
Here float32 means float32: the operators say so around each call, forward and backward.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F

from ..ops.operators import gradients_like
from .gdn import forward as normalise


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


def forward(x, weight, bias, gamma, beta, residual, stride, leaky, shuffle, inverse):
    weight, bias = weight.to(x.dtype), None if bias is None else bias.to(x.dtype)
    with full_float32():
        out = F.conv2d(x.permute(0, 3, 1, 2), weight, bias, stride=stride, padding=1)
    out = F.leaky_relu(out) if leaky else out
    out = F.pixel_shuffle(out, shuffle).permute(0, 2, 3, 1).contiguous()
    if gamma is not None:
        return normalise(out, gamma, beta, residual, inverse)
    return out if residual is None else residual + out


def backward(grad, out, x, weight, bias, stride, shuffle, with_dx, with_parameters):
    if out is not None:
        grad = torch.where(out > 0, grad, 0.01 * grad)
    grad = F.pixel_unshuffle(grad.permute(0, 3, 1, 2).to(x.dtype), shuffle)
    grad = grad.contiguous(memory_format=torch.channels_last)
    with full_float32():
        dx, dweight, dbias = torch.ops.aten.convolution_backward(
            grad, x.permute(0, 3, 1, 2), weight.to(x.dtype), [weight.shape[0]], [stride, stride],
            [1, 1], [1, 1], False, [0, 0], 1,
            [with_dx, with_parameters, with_parameters and bias is not None],
        )  # fmt: skip
    dx = dx.permute(0, 2, 3, 1).contiguous() if with_dx else x.new_empty(0)
    if not with_parameters:
        return dx, x.new_empty(0), x.new_empty(0)
    return dx, *gradients_like((weight, bias), (dweight.contiguous(), dbias))
