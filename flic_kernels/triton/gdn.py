"""GDN and its inverse on channels-last activations, with the residual added, in one kernel.

The squares are formed as the product's operand is loaded; root, multiplication and residual are its
epilogue. Products run as three TF32 products. The backward pass is PyTorch's own products.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..ops.gdn import allocate
from .launch import Launch, run

BLOCK_M, BLOCK_N, BLOCK_K = 64, 64, 32
WARPS, STAGES = 4, 3


@triton.jit
def _kernel(
    x, gamma, beta, residual, out, M,
    C: tl.constexpr, INVERSE: tl.constexpr, RESIDUAL: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """out [M, C]: one tile."""
    row = (tl.program_id(0) * BM + tl.arange(0, BM)).to(tl.int64)
    column = tl.program_id(1) * BN + tl.arange(0, BN)
    inner = tl.arange(0, BK)
    total = tl.zeros([BM, BN], dtype=tl.float32)
    for start in range(0, C, BK):
        k = start + inner
        mask = (row < M)[:, None] & (k < C)[None, :]
        left = tl.load(x + row[:, None] * C + k[None, :], mask=mask, other=0.0).to(tl.float32)
        mask = (k < C)[:, None] & (column < C)[None, :]
        right = tl.load(gamma + column[None, :] * C + k[:, None], mask=mask, other=0.0)
        total += tl.dot(left * left, right.to(tl.float32), input_precision="tf32x3")
    total += tl.load(beta + column, mask=column < C, other=1.0).to(tl.float32)[None, :]
    offset = row[:, None] * C + column[None, :]
    mask = (row < M)[:, None] & (column < C)[None, :]
    result = tl.load(x + offset, mask=mask, other=0.0).to(tl.float32)
    if INVERSE:
        result *= tl.sqrt(total)
    else:
        result *= tl.rsqrt(total)
    if RESIDUAL:
        result += tl.load(residual + offset, mask=mask, other=0.0).to(tl.float32)
    tl.store(out + offset, result.to(out.dtype.element_ty), mask=mask)


def forward_launches(
    x: Tensor, gamma: Tensor, beta: Tensor, residual: Tensor | None, out: Tensor, inverse: bool
) -> list[Launch]:
    channels = x.shape[-1]
    rows = x.numel() // channels
    arguments = {
        "x": x,
        "gamma": gamma,
        "beta": beta,
        "residual": residual,
        "out": out,
        "M": rows,
        "C": channels,
        "INVERSE": inverse,
        "RESIDUAL": residual is not None,
        "BM": BLOCK_M,
        "BN": BLOCK_N,
        "BK": BLOCK_K,
    }
    grid = (-(-rows // BLOCK_M), -(-channels // BLOCK_N))
    return [Launch(_kernel, grid, arguments, WARPS, STAGES)]


def forward(x, gamma, beta, residual, inverse):
    x, gamma, beta = x.contiguous(), gamma.contiguous(), beta.contiguous()
    residual = None if residual is None else residual.contiguous()
    out = allocate(x, gamma, beta, residual, inverse)
    run(forward_launches(x, gamma, beta, residual, out, inverse), x.device)
    return out


def backward(grad, x, gamma, beta, inverse, with_parameters):
    grad, wide = grad.float().flatten(0, -2), x.float().flatten(0, -2)
    squares = wide * wide
    norm = torch.addmm(beta.float(), squares, gamma.float().t())
    root = norm.rsqrt()
    if inverse:
        dnorm, factor = 0.5 * grad * wide * root, norm.sqrt()
    else:
        dnorm, factor = -0.5 * grad * wide * root / norm, root
    dx = grad * factor + 2 * wide * (dnorm @ gamma.float())
    dx = dx.reshape(x.shape).to(x.dtype)
    if not with_parameters:
        return dx, gamma.new_empty(0), beta.new_empty(0)
    dgamma, dbeta = dnorm.t() @ squares, dnorm.sum(0)
    return dx, dgamma.to(gamma.dtype), dbeta.to(beta.dtype)
