"""GDN and its inverse on a CPU: operators around the C++ kernels.

The squares of a few rows, their product with gamma, and root, multiplication and residual as its
epilogue, all in cache. The backward pass sums the parameters' gradients in a fixed order.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..ops.operators import needs_grad, once_differentiable
from .launch import call, check_tensors, element, int64, operator, threads


def _rows(x: Tensor) -> tuple:
    return int64(x.numel() // x.shape[-1]), x.shape[-1]


def _forward(x, gamma, beta, residual, inverse):
    x, gamma, beta = x.contiguous(), gamma.float().contiguous(), beta.float().contiguous()
    residual = None if residual is None else residual.to(x.dtype).contiguous()
    out = _forward_fake(x, gamma, beta, residual, inverse)
    call(
        "gdn", x, element(x), *_rows(x), gamma, beta, int(inverse), residual, out, threads()
    )  # fmt: skip
    return out


def _forward_fake(x, gamma, beta, residual, inverse):
    return x.new_empty(x.shape)


def _backward(grad, x, gamma, beta, inverse):
    x, grad = x.contiguous(), grad.to(x.dtype).contiguous()
    wide, wide_beta = gamma.float().contiguous(), beta.float().contiguous()
    dx, dgamma, dbeta = _backward_fake(grad, x, wide, wide_beta, inverse)
    call(
        "gdn_backward", grad, x, element(x), *_rows(x), wide, wide_beta, int(inverse), dx, dgamma,
        dbeta, threads(),
    )  # fmt: skip
    return dx, dgamma.to(gamma.dtype), dbeta.to(beta.dtype)


def _backward_fake(grad, x, gamma, beta, inverse):
    return x.new_empty(x.shape), gamma.new_empty(gamma.shape), beta.new_empty(beta.shape)


_OPERATOR = operator(
    "gdn_cpu(Tensor x, Tensor gamma, Tensor beta, Tensor? residual, bool inverse) -> Tensor",
    _forward,
    _forward_fake,
)
_BACKWARD_OPERATOR = operator(
    "gdn_cpu_backward(Tensor grad, Tensor x, Tensor gamma, Tensor beta, bool inverse)"
    " -> (Tensor, Tensor, Tensor)",
    _backward,
    _backward_fake,
)


class _GDN(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, gamma, beta, residual, inverse):
        ctx.save_for_backward(x, gamma, beta)
        ctx.inverse = inverse
        ctx.with_residual = residual is not None
        return _OPERATOR(x, gamma, beta, residual, inverse)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        gradients = _BACKWARD_OPERATOR(grad, *ctx.saved_tensors, ctx.inverse)
        return *gradients, grad if ctx.with_residual else None, None


def gdn(
    x: Tensor, gamma: Tensor, beta: Tensor, *, inverse: bool, residual: Tensor | None
) -> Tensor:
    """The contract is that of `flic_kernels.gdn`; float32 and bfloat16."""
    check_tensors(x, gamma, beta, residual)
    added = residual is not None and residual.dtype != x.dtype  # to a result of the wider type
    compute = _GDN.apply if needs_grad(x, gamma, beta, residual) else _OPERATOR
    out = compute(x, gamma, beta, None if added else residual, inverse)
    return residual + out if added else out
