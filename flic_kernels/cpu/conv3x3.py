"""3x3 convolutions on a CPU: the operator around csrc/cpu/conv3x3.cpp."""

from __future__ import annotations

import torch
from torch import Tensor

from ..ops.conv3x3 import composed, out_shape
from ..ops.operators import needs_grad
from .launch import call, check_tensors, element, int64, operator, threads


def _forward(x, weight, bias, stride, leaky_relu, shuffle, gamma, beta, inverse, residual):
    x, weight = x.contiguous(), weight.to(x.dtype).contiguous()
    bias, gamma, beta = (None if t is None else t.float().contiguous() for t in (bias, gamma, beta))
    residual = None if residual is None else residual.to(x.dtype).contiguous()
    out = x.new_empty(out_shape(x, weight, stride, shuffle))
    batch, height, width, channels = x.shape
    call(
        "cpu_conv3x3", x, element(x), int64(batch), height, width, channels, weight, bias,
        weight.shape[0], stride, int(leaky_relu), shuffle, gamma, beta, int(inverse), residual, out,
        threads(),
    )  # fmt: skip
    return out


def _forward_fake(x, weight, bias, stride, leaky_relu, shuffle, gamma, beta, inverse, residual):
    return x.new_empty(out_shape(x, weight, stride, shuffle))


_OPERATOR = operator(
    "conv3x3_cpu(Tensor x, Tensor weight, Tensor? bias, int stride, bool leaky_relu, int shuffle, "
    "Tensor? gamma, Tensor? beta, bool inverse, Tensor? residual) -> Tensor",
    _forward,
    _forward_fake,
)


def conv3x3(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, stride: int = 1,
    leaky_relu: bool = False, shuffle: int = 1, gamma: Tensor | None = None,
    beta: Tensor | None = None, inverse: bool = False, residual: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The contract is that of `flic_kernels.conv3x3`; float32 and bfloat16.

    Where gradients are wanted, and under autocast, PyTorch convolves.
    """
    tensors = (x, weight, bias, gamma, beta, residual)
    check_tensors(*tensors)
    if needs_grad(*tensors) or torch.is_autocast_enabled("cpu"):
        return composed(
            x, weight, bias, stride=stride, leaky_relu=leaky_relu, shuffle=shuffle, gamma=gamma,
            beta=beta, inverse=inverse, residual=residual,
        )  # fmt: skip
    return _OPERATOR(x, weight, bias, stride, leaky_relu, shuffle, gamma, beta, inverse, residual)
