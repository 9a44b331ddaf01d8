"""A toy: one tensor plus a part of another. Contract and eager reference."""

from __future__ import annotations

import torch
from torch import Tensor

from .operators import needs_grad, once_differentiable, operator
from .registry import Case, Operation


def mix(x: Tensor, residual: Tensor, *, amount: float, impl: str | None = None) -> Tensor:
    """x + amount * residual.

    Args:
        x, residual: of one shape and float dtype.
        amount: of residual.
        impl: "reference" or another implementation's name; None picks by device.

    Returns:
        Of the same shape and dtype; computed in float32 at least.

    Raises:
        ValueError: shapes or dtypes that do not fit together.
    """
    if x.shape != residual.shape or x.dtype != residual.dtype:
        raise ValueError("x and residual must have one shape and dtype")
    return MIX.choose_for(impl, x, residual)(x, residual, amount=amount)


def reference(x: Tensor, residual: Tensor, *, amount: float) -> Tensor:
    """The eager reference: plain differentiable PyTorch, any device and float dtype."""
    wide = torch.promote_types(x.dtype, torch.float32)
    return (x.to(wide) + amount * residual.to(wide)).to(x.dtype)


def allocate(x, residual, amount):
    return x.new_empty(x.shape)


def allocate_backward(grad, amount):
    return grad.new_empty(grad.shape)


_FORWARD = operator("mix(Tensor x, Tensor residual, float amount, str impl) -> Tensor", allocate)
_BACKWARD = operator(
    "mix_backward(Tensor grad, float amount, str impl) -> Tensor", allocate_backward
)


class _Mix(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, residual, amount, impl):
        ctx.settings = amount, impl
        ctx.save_for_backward(x, residual)
        return _FORWARD(x, residual, amount, impl)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        return grad, _BACKWARD(grad, *ctx.settings), None, None


def compute(x: Tensor, residual: Tensor, *, amount: float, impl: str) -> Tensor:
    """By the back end `impl`."""
    run = _Mix.apply if needs_grad(x, residual) else _FORWARD
    return run(x, residual, amount, impl)


def _case(name: str, shape: tuple[int, ...], amount: float) -> Case:
    def make(generator: torch.Generator, dtype: torch.dtype) -> dict:
        x, residual = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
        return {"x": x.to(dtype), "residual": residual.to(dtype), "amount": amount}

    return Case(name, make)


MIX = Operation(
    name="mix",
    reference=reference,
    compute=compute,
    cases=(_case("image", (2, 7, 5, 24), 0.5), _case("vector", (3, 11), -2.0)),
    tolerances={
        torch.float64: 1e-12,
        torch.float32: 1e-6,
        torch.bfloat16: 1e-2,
        torch.float16: 1e-3,
    },
    differentiable=("x", "residual"),
)
