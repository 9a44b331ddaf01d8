"""The head of a T-CA layer in one kernel: GroupNorm, depthwise 3x3, GroupNorm, GELU, residual.

A program takes one window and slice, all of whose values stay in registers: the image is read once
(the taps' neighbours come from the cache) and the encoded window is written once. The backward pass
is PyTorch's own normalisation and convolution on the recomputed activations.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from ..ops.operators import gradients_like
from ..ops.positional_encoding import allocate, from_windows, to_windows
from ..ops.registry import NotAvailable
from .launch import Launch, power_of_two, run

WARPS = 8


@triton.jit
def _kernel(
    u, norm1_weight, norm1_bias, conv_weight, conv_bias, norm2_weight, norm2_bias, out, H, W, eps,
    C: tl.constexpr, SIZE: tl.constexpr, SP: tl.constexpr, SIDE: tl.constexpr,
    LP: tl.constexpr,
):  # fmt: skip
    """One window of SIDE x SIDE positions and one slice of SIZE channels."""
    COUNT: tl.constexpr = SIDE * SIDE * SIZE
    window = tl.program_id(0)
    columns = W // SIDE
    rows = H // SIDE
    position = tl.arange(0, LP)
    channel = tl.program_id(1) * SIZE + tl.arange(0, SP)
    present = tl.arange(0, SP) < SIZE
    y = position // SIDE
    x = position % SIDE
    u += (window // (rows * columns)).to(tl.int64) * H * W * C
    top = (window // columns) % rows * SIDE
    left = window % columns * SIDE
    pixel = (top + y) * W + left + x
    offset = pixel[:, None] * C + channel[None, :]
    inside = (position < SIDE * SIDE)[:, None] & present[None, :]

    value = tl.load(u + offset, mask=inside, other=0.0).to(tl.float32)  # [LP, SP]
    mean = tl.sum(tl.sum(value, axis=1), axis=0) / COUNT
    value = tl.where(inside, value - mean, 0.0)
    deviation = tl.rsqrt(tl.sum(tl.sum(value * value, axis=1), axis=0) / COUNT + eps)
    weight = tl.load(norm1_weight + channel, mask=present, other=0.0).to(tl.float32) * deviation
    bias = tl.load(norm1_bias + channel, mask=present, other=0.0).to(tl.float32)
    bias -= mean * weight

    encoded = tl.zeros([LP, SP], dtype=tl.float32)
    encoded += tl.load(conv_bias + channel, mask=present, other=0.0).to(tl.float32)[None, :]
    for tap in range(9):
        dy = tap // 3 - 1
        dx = tap % 3 - 1
        near = (y + dy >= 0) & (y + dy < SIDE) & (x + dx >= 0) & (x + dx < SIDE)
        near = near[:, None] & inside
        value = tl.load(u + offset + (dy * W + dx) * C, mask=near, other=0.0).to(tl.float32)
        value = tl.where(near, value * weight[None, :] + bias[None, :], 0.0)
        factor = tl.load(conv_weight + channel * 9 + tap, mask=present, other=0.0).to(tl.float32)
        encoded += value * factor[None, :]

    encoded = tl.where(inside, encoded, 0.0)
    mean = tl.sum(tl.sum(encoded, axis=1), axis=0) / COUNT
    encoded = tl.where(inside, encoded - mean, 0.0)
    deviation = tl.rsqrt(tl.sum(tl.sum(encoded * encoded, axis=1), axis=0) / COUNT + eps)
    scale = tl.load(norm2_weight + channel, mask=present, other=0.0).to(tl.float32) * deviation
    shift = tl.load(norm2_bias + channel, mask=present, other=0.0).to(tl.float32)
    encoded = encoded * scale[None, :] + shift[None, :]
    encoded = 0.5 * encoded * (1.0 + tl.erf(encoded * 0.7071067811865476))
    value = tl.load(u + offset, mask=inside, other=0.0).to(tl.float32)
    encoded += value * weight[None, :] + bias[None, :]
    out += window.to(tl.int64) * (SIDE * SIDE * C)
    target = position[:, None] * C + channel[None, :]
    tl.store(out + target, encoded.to(out.dtype.element_ty), mask=inside)


def forward_launches(
    u: Tensor, parameters: tuple[Tensor, ...], out: Tensor, slices: int, window: int, eps: float
) -> list[Launch]:
    """`parameters`: norm1's weight and bias, the convolution's, norm2's."""
    batch, height, width, channels = u.shape
    names = ("norm1_weight", "norm1_bias", "conv_weight", "conv_bias", "norm2_weight", "norm2_bias")
    arguments = {
        "u": u,
        **dict(zip(names, parameters, strict=True)),
        "out": out,
        "H": height,
        "W": width,
        "eps": eps,
        "C": channels,
        "SIZE": channels // slices,
        "SP": power_of_two(channels // slices),
        "SIDE": window,
        "LP": power_of_two(window * window),
    }
    grid = (batch * height * width // window**2, slices)
    return [Launch(_kernel, grid, arguments, WARPS)]


def forward(u, parameters, slices, window, eps):
    if u.shape[3] // slices > 256 or window > 8:
        raise NotAvailable(
            "the Triton positional encoding takes up to 256 channels a slice and windows up to "
            f"8x8, not {u.shape[3] // slices} and {window}x{window}"
        )
    u, parameters = u.contiguous(), tuple(t.contiguous() for t in parameters)
    out = allocate(u, parameters, slices, window, eps)
    run(forward_launches(u, parameters, out, slices, window, eps), u.device)
    return out


def backward(grad, u, parameters, slices, window, eps):
    """By PyTorch's own kernels."""
    weight1, bias1, weight, bias, weight2, bias2 = (t.float() for t in parameters)
    windows = to_windows(u.float(), window).contiguous()
    count, channels, area = windows.shape[0], windows.shape[1], window * window
    sizes = count, channels, area, slices
    aten = torch.ops.aten
    w, mean1, deviation1 = aten.native_group_norm(windows, weight1, bias1, *sizes, eps)
    convolved = F.conv2d(w, weight, bias, padding=1, groups=channels).contiguous()
    hidden, mean2, deviation2 = aten.native_group_norm(convolved, weight2, bias2, *sizes, eps)
    grad = grad.float().transpose(1, 2).reshape(windows.shape)
    every = [True, True, True]
    dhidden = aten.gelu_backward(grad, hidden)
    dconvolved, dweight2, dbias2 = aten.native_group_norm_backward(
        dhidden.contiguous(), convolved, mean2, deviation2, weight2, *sizes, every
    )
    dw, dweight, dbias = aten.convolution_backward(
        dconvolved, w, weight, [channels], [1, 1], [1, 1], [1, 1], False, [0, 0], channels, every
    )
    dwindows, dweight1, dbias1 = aten.native_group_norm_backward(
        (grad + dw).contiguous(), windows, mean1, deviation1, weight1, *sizes, every
    )
    du = from_windows(dwindows, u.shape[1], u.shape[2]).to(u.dtype)
    found = (dweight1, dbias1, dweight, dbias, dweight2, dbias2)
    return [du, *gradients_like(parameters, found)]
