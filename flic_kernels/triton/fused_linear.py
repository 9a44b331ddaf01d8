"""A Linear with LayerNorm before it and bias, GELU, residual after it, in one kernel.

A program makes one tile of the output. With a LayerNorm it first reads its rows once more for their
statistics; those rows come from the cache afterwards. Float32 products run as three TF32 products.
The backward pass is PyTorch's own products and normalisation on the recomputed activations.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..ops.fused_linear import allocate
from ..ops.operators import gradients_like
from .launch import Launch, dot_dtype, run

BLOCK_M, BLOCK_N, BLOCK_K = 64, 64, 32
WARPS, STAGES = 4, 2


@triton.jit
def _rows(x, row, column, M, K: tl.constexpr, stride: tl.constexpr):
    mask = (row < M)[:, None] & (column < K)[None, :]
    address = x + row.to(tl.int64)[:, None] * stride + column[None, :]
    return tl.load(address, mask=mask, other=0.0)


@triton.jit
def _kernel(
    x, weight, bias, norm_weight, norm_bias, residual, out, M, eps,
    K: tl.constexpr, N: tl.constexpr, GROUPS: tl.constexpr, NORM: tl.constexpr,
    BIAS: tl.constexpr, GELU: tl.constexpr, RESIDUAL: tl.constexpr, DOT: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """out [M, GROUPS N] from x [M, GROUPS K] and weight [GROUPS N, K]."""
    group = tl.program_id(2)
    row = tl.program_id(0) * BM + tl.arange(0, BM)
    column = tl.program_id(1) * BN + tl.arange(0, BN)
    inner = tl.arange(0, BK)
    x += group * K
    weight += group * N * K
    if NORM:
        mean = tl.zeros([BM], dtype=tl.float32)
        for start in range(0, K, BK):
            mean += tl.sum(_rows(x, row, start + inner, M, K, GROUPS * K).to(tl.float32), axis=1)
        mean = mean / K
        variance = tl.zeros([BM], dtype=tl.float32)
        for start in range(0, K, BK):
            centred = _rows(x, row, start + inner, M, K, GROUPS * K).to(tl.float32) - mean[:, None]
            centred = tl.where((start + inner < K)[None, :], centred, 0.0)
            variance += tl.sum(centred * centred, axis=1)
        deviation = tl.rsqrt(variance / K + eps)
    total = tl.zeros([BM, BN], dtype=tl.float32)
    for start in range(0, K, BK):
        k = start + inner
        left = _rows(x, row, k, M, K, GROUPS * K)
        if NORM:
            scale = tl.load(norm_weight + k, mask=k < K, other=0.0).to(tl.float32)
            shift = tl.load(norm_bias + k, mask=k < K, other=0.0).to(tl.float32)
            left = (left.to(tl.float32) - mean[:, None]) * deviation[:, None]
            left = left * scale[None, :] + shift[None, :]
        mask = (k < K)[:, None] & (column < N)[None, :]
        right = tl.load(weight + column[None, :] * K + k[:, None], mask=mask, other=0.0)
        total += tl.dot(left.to(DOT), right.to(DOT), input_precision="tf32x3")
    if BIAS:
        total += tl.load(bias + group * N + column, mask=column < N, other=0.0).to(tl.float32)
    if GELU:
        total = 0.5 * total * (1.0 + tl.erf(total * 0.7071067811865476))
    offset = row.to(tl.int64)[:, None] * (GROUPS * N) + (group * N + column)[None, :]
    mask = (row < M)[:, None] & (column < N)[None, :]
    if RESIDUAL:
        total += tl.load(residual + offset, mask=mask, other=0.0).to(tl.float32)
    tl.store(out + offset, total.to(out.dtype.element_ty), mask=mask)


def forward_launches(
    x: Tensor, weight: Tensor, bias: Tensor | None, norm_weight: Tensor | None,
    norm_bias: Tensor | None, residual: Tensor | None, out: Tensor, gelu: bool, groups: int,
    eps: float,
) -> list[Launch]:  # fmt: skip
    k, n = weight.shape[1], weight.shape[0] // groups
    rows = x.numel() // (groups * k)
    arguments = {
        "x": x,
        "weight": weight,
        "bias": bias,
        "norm_weight": norm_weight,
        "norm_bias": norm_bias,
        "residual": residual,
        "out": out,
        "M": rows,
        "eps": eps,
        "K": k,
        "N": n,
        "GROUPS": groups,
        "NORM": norm_weight is not None,
        "BIAS": bias is not None,
        "GELU": gelu,
        "RESIDUAL": residual is not None,
        "DOT": dot_dtype(x.dtype),
        "BM": BLOCK_M,
        "BN": BLOCK_N,
        "BK": BLOCK_K,
    }
    grid = (-(-rows // BLOCK_M), -(-n // BLOCK_N), groups)
    return [Launch(_kernel, grid, arguments, WARPS, STAGES)]


def forward(x, weight, bias, norm_weight, norm_bias, residual, gelu, groups, eps):
    optional = (bias, norm_weight, norm_bias, residual)
    x, weight = x.contiguous(), weight.contiguous()
    bias, norm_weight, norm_bias, residual = (t if t is None else t.contiguous() for t in optional)
    settings = gelu, groups, eps
    out = allocate(x, weight, bias, norm_weight, norm_bias, residual, *settings)
    launches = forward_launches(x, weight, bias, norm_weight, norm_bias, residual, out, *settings)
    run(launches, x.device)
    return out


def backward(grad, x, weight, bias, norm_weight, norm_bias, gelu, groups, eps, with_parameters):
    grad, shape, lead = grad.to(x.dtype), x.shape, x.numel() // x.shape[-1]
    normed = x
    if norm_weight is not None:
        scale, shift = norm_weight.to(x.dtype), norm_bias.to(x.dtype)
        normed, mean, deviation = torch.ops.aten.native_layer_norm(x, shape[-1:], scale, shift, eps)
    left = normed.reshape(lead, groups, -1).transpose(0, 1)  # [groups, rows, K]
    matrices = weight.to(x.dtype).unflatten(0, (groups, -1))  # [groups, N, K]
    grad = grad.reshape(lead, groups, -1).transpose(0, 1)
    if gelu:
        hidden = left @ matrices.transpose(1, 2)
        if bias is not None:
            hidden = hidden + bias.to(x.dtype).reshape(groups, 1, -1)
        grad = torch.ops.aten.gelu_backward(grad, hidden)
    dx, dnorms = (grad @ matrices).transpose(0, 1).reshape(shape), (None, None)
    if norm_weight is not None:
        wanted = [True, with_parameters, with_parameters]
        dx, *dnorms = torch.ops.aten.native_layer_norm_backward(
            dx, x, shape[-1:], mean, deviation, scale, shift, wanted
        )
    if not with_parameters:
        return [dx]
    found = (grad.transpose(1, 2) @ left).flatten(0, 1), grad.sum(1).flatten(), *dnorms
    return [dx, *gradients_like((weight, bias, norm_weight, norm_bias), found)]
