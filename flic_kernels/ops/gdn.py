"""Generalised divisive normalisation: contract and eager reference.

Source: Ballé, Laparra, Simoncelli, "Density Modeling of Images using a Generalized Normalization
Transformation", ICLR 2016, and its approximate inverse (IGDN) of the ICLR 2017 paper.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .operators import needs_grad, once_differentiable, operator
from .registry import Case, Operation


def gdn(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    *,
    inverse: bool = False,
    residual: Tensor | None = None,
    impl: str | None = None,
) -> Tensor:
    """x / sqrt(beta + gamma x^2), or x * sqrt(beta + gamma x^2) for the inverse, plus the residual.

    Args:
        x: [..., C], float.
        gamma: [C, C], non-negative, and beta: [C], positive: the values after reparametrisation.
        inverse: IGDN instead of GDN.
        residual: [..., C] to add to the result, or None.
        impl: "reference" or another implementation's name; None picks by device.

    Returns:
        [..., C] of x's dtype (of the wider one of x's and residual's). The sum of squares and the
        root are in float32 at least.

    Raises:
        ValueError: shapes that do not fit together.
    """
    channels = x.shape[-1]
    if list(gamma.shape) != [channels, channels] or list(beta.shape) != [channels]:
        raise ValueError(
            f"gamma must be [{channels}, {channels}] and beta [{channels}], "
            f"not {list(gamma.shape)} and {list(beta.shape)}"
        )
    if residual is not None and residual.shape != x.shape:
        raise ValueError(f"residual must be {list(x.shape)} as x is, not {list(residual.shape)}")
    normalise = GDN.choose_for(impl, x, gamma, beta, residual)
    return normalise(x, gamma, beta, inverse=inverse, residual=residual)


def reference(
    x: Tensor, gamma: Tensor, beta: Tensor, *, inverse: bool, residual: Tensor | None
) -> Tensor:
    """The eager reference: plain differentiable PyTorch, any device and float dtype."""
    compute = torch.promote_types(x.dtype, torch.float32)
    wide = x.to(compute)
    with torch.autocast(x.device.type, enabled=False):
        norm = F.linear(wide * wide, gamma.to(compute), beta.to(compute))
    out = (wide * (torch.sqrt(norm) if inverse else torch.rsqrt(norm))).to(x.dtype)
    return out if residual is None else residual + out


def allocate(x, gamma, beta, residual, inverse):
    dtype = x.dtype if residual is None else torch.promote_types(x.dtype, residual.dtype)
    return x.new_empty(x.shape, dtype=dtype)


def allocate_backward(grad, x, gamma, beta, inverse, with_parameters):
    """The parameters' gradients are empty where they are not wanted."""
    shapes = (gamma.shape, beta.shape) if with_parameters else (0, 0)
    return x.new_empty(x.shape), gamma.new_empty(shapes[0]), beta.new_empty(shapes[1])


_FORWARD = operator(
    "gdn(Tensor x, Tensor gamma, Tensor beta, Tensor? residual, bool inverse, str impl) -> Tensor",
    allocate,
)
_BACKWARD = operator(
    "gdn_backward(Tensor grad, Tensor x, Tensor gamma, Tensor beta, bool inverse, "
    "bool with_parameters, str impl) -> (Tensor, Tensor, Tensor)",
    allocate_backward,
)


class _GDN(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, gamma, beta, residual, inverse, impl):
        ctx.save_for_backward(x, gamma, beta)
        ctx.settings, ctx.residual_dtype = (inverse, impl), getattr(residual, "dtype", None)
        return _FORWARD(x, gamma, beta, residual, inverse, impl)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        wanted = any(ctx.needs_input_grad[1:3])
        inverse, impl = ctx.settings
        dx, *found = _BACKWARD(grad, *ctx.saved_tensors, inverse, wanted, impl)
        gradients = (dx, *found) if wanted else (dx, None, None)
        dresidual = None if ctx.residual_dtype is None else grad.to(ctx.residual_dtype)
        return *gradients, dresidual, None, None


def compute(
    x: Tensor, gamma: Tensor, beta: Tensor, *, inverse: bool, residual: Tensor | None, impl: str
) -> Tensor:
    """By the back end `impl`."""
    run = _GDN.apply if needs_grad(x, gamma, beta, residual) else _FORWARD
    return run(x, gamma, beta, residual, inverse, impl)


def _case(name: str, shape: tuple[int, ...], inverse: bool, with_residual: bool) -> Case:
    def make(generator: torch.Generator, dtype: torch.dtype) -> dict:
        channels = shape[-1]
        wide = torch.promote_types(dtype, torch.float32)

        def draw(*dims):
            return torch.randn(*dims, generator=generator, dtype=torch.float64)

        return {
            "x": draw(*shape).to(dtype),
            "gamma": (0.1 * torch.eye(channels) + 0.02 * draw(channels, channels).abs()).to(wide),
            "beta": (1 + 0.2 * draw(channels).abs()).to(wide),
            "inverse": inverse,
            "residual": draw(*shape).to(dtype) if with_residual else None,
        }

    return Case(name, make)


GDN = Operation(
    name="gdn",
    reference=reference,
    compute=compute,
    cases=(
        _case("forward-residual", (1, 8, 10, 96), False, True),
        _case("inverse", (3, 5, 6, 144), True, False),
        _case("forward", (1, 7, 20), False, False),
    ),
    benchmarks=(
        _case("residual", (1, 256, 384, 96), False, True),
        _case("inverse-residual", (1, 64, 96, 256), True, True),
    ),
    tolerances={
        torch.float64: 1e-12,
        torch.float32: 1e-5,
        torch.bfloat16: 1e-2,
        torch.float16: 1e-3,
    },
    differentiable=("x", "gamma", "beta", "residual"),
)
