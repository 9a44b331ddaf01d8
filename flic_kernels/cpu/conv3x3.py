"""3x3 convolutions and their epilogues on a CPU: the C++ kernels.

One pass over the image, block by block; a block's results are in cache when GDN takes them. The
backward pass takes the leaky ReLU and the shuffle back and sums the weight's gradient, in float32,
in a fixed order.
"""

from __future__ import annotations

import torch

from ..ops.conv3x3 import allocate
from ..ops.operators import gradients_like
from .launch import call, element, threads


def forward(x, weight, bias, gamma, beta, residual, stride, leaky, shuffle, inverse):
    if residual is not None and residual.dtype != x.dtype:  # added to a result of the wider type
        after = stride, leaky, shuffle, inverse
        return residual + forward(x, weight, bias, gamma, beta, None, *after)
    x, weight = x.contiguous(), weight.to(x.dtype).contiguous()
    bias, gamma, beta = (t if t is None else t.float().contiguous() for t in (bias, gamma, beta))
    residual = None if residual is None else residual.contiguous()
    out = allocate(x, weight, bias, gamma, beta, residual, stride, leaky, shuffle, inverse)
    batch, height, width, channels = x.shape
    call(
        "conv3x3", x, element(x), batch, height, width, channels, weight, bias,
        weight.shape[0], stride, leaky, shuffle, gamma, beta, inverse, residual, out,
        threads(),
    )  # fmt: skip
    return out


def backward(grad, out, x, weight, bias, stride, shuffle, with_dx, with_parameters):
    x, grad = x.contiguous(), grad.to(x.dtype).contiguous()
    narrow = weight.to(x.dtype).contiguous()
    dx = x.new_empty(x.shape if with_dx else 0)
    gradients = None, None
    if with_parameters:
        gradients = tuple(
            x.new_empty(size, dtype=torch.float32) for size in (weight.shape, weight.shape[:1])
        )
    batch, height, width, channels = x.shape
    call(
        "conv3x3_backward", grad, out, x, element(x), batch, height, width, channels, narrow,
        weight.shape[0], stride, shuffle, dx if with_dx else None, *gradients, threads(),
    )  # fmt: skip
    if not with_parameters:
        return dx, x.new_empty(0), x.new_empty(0)
    return dx, *gradients_like((weight, bias), gradients)
