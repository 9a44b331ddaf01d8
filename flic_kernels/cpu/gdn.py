"""GDN and its inverse on a CPU: the C++ kernels.

The squares of a few rows, their product with gamma, and root, multiplication and residual as its
epilogue, all in cache. The backward pass sums the parameters' gradients in a fixed order.
"""

from __future__ import annotations

from torch import Tensor

from ..ops.gdn import allocate, allocate_backward
from .launch import call, element, threads


def _rows(x: Tensor) -> tuple:
    return x.numel() // x.shape[-1], x.shape[-1]


def forward(x, gamma, beta, residual, inverse):
    x, gamma, beta = x.contiguous(), gamma.float().contiguous(), beta.float().contiguous()
    if residual is not None and residual.dtype != x.dtype:  # added to a result of the wider type
        return residual + forward(x, gamma, beta, None, inverse)
    residual = None if residual is None else residual.contiguous()
    out = allocate(x, gamma, beta, residual, inverse)
    call(
        "gdn", x, element(x), *_rows(x), gamma, beta, inverse, residual, out, threads()
    )  # fmt: skip
    return out


def backward(grad, x, gamma, beta, inverse, with_parameters):
    x, grad = x.contiguous(), grad.to(x.dtype).contiguous()
    wide, wide_beta = gamma.float().contiguous(), beta.float().contiguous()
    dx, dgamma, dbeta = allocate_backward(grad, x, wide, wide_beta, inverse, with_parameters)
    gradients = (dgamma, dbeta) if with_parameters else (None, None)
    call(
        "gdn_backward", grad, x, element(x), *_rows(x), wide, wide_beta, inverse, dx,
        *gradients, threads(),
    )  # fmt: skip
    return dx, dgamma.to(gamma.dtype), dbeta.to(beta.dtype)
