"""GDN and its inverse on channels-last activations, with the residual added, in one kernel.

The squares are formed as the product's operand is loaded; root, multiplication and residual are its
epilogue. Products run as three TF32 products. The backward pass is PyTorch's own products.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..ops.operators import needs_grad, once_differentiable
from .launch import Launch, check_dtype, operator, run

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


def _forward(x, gamma, beta, residual, inverse):
    x, gamma, beta = x.contiguous(), gamma.contiguous(), beta.contiguous()
    residual = None if residual is None else residual.contiguous()
    out = _forward_fake(x, gamma, beta, residual, inverse)
    run(forward_launches(x, gamma, beta, residual, out, inverse), x.device)
    return out


def _forward_fake(x, gamma, beta, residual, inverse):
    dtype = x.dtype if residual is None else torch.promote_types(x.dtype, residual.dtype)
    return x.new_empty(x.shape, dtype=dtype)


_OPERATOR = operator(
    "gdn_triton(Tensor x, Tensor gamma, Tensor beta, Tensor? residual, bool inverse) -> Tensor",
    _forward,
    _forward_fake,
)


class _GDN(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, gamma, beta, residual, inverse):
        ctx.save_for_backward(x, gamma, beta)
        ctx.inverse = inverse
        ctx.residual_dtype = None if residual is None else residual.dtype
        return _OPERATOR(x, gamma, beta, residual, inverse)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, gamma, beta = ctx.saved_tensors
        dresidual = None if ctx.residual_dtype is None else grad.to(ctx.residual_dtype)
        grad, wide = grad.float().flatten(0, -2), x.float().flatten(0, -2)
        squares = wide * wide
        norm = torch.addmm(beta.float(), squares, gamma.float().t())
        root = norm.rsqrt()
        if ctx.inverse:
            dnorm, factor = 0.5 * grad * wide * root, norm.sqrt()
        else:
            dnorm, factor = -0.5 * grad * wide * root / norm, root
        dx = grad * factor + 2 * wide * (dnorm @ gamma.float())
        dgamma, dbeta = dnorm.t() @ squares, dnorm.sum(0)
        dx = dx.reshape(x.shape).to(x.dtype)
        return dx, dgamma.to(gamma.dtype), dbeta.to(beta.dtype), dresidual, None


def gdn(
    x: Tensor, gamma: Tensor, beta: Tensor, *, inverse: bool, residual: Tensor | None
) -> Tensor:
    """The contract is that of `flic_kernels.gdn`."""
    check_dtype(x, gamma, beta, *(() if residual is None else (residual,)))
    compute = _GDN.apply if needs_grad(x, gamma, beta, residual) else _OPERATOR
    return compute(x, gamma, beta, residual, inverse)
