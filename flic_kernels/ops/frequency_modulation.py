"""Frequency modulation of the FMFFN: contract and eager reference.

Source: Li et al., "Frequency-Aware Transformer for Learned Image Compression", ICLR 2024,
section 3.3 (frequency-modulation feed-forward network).

Each P x P window is filtered in its own spectrum: real 2-D Fourier transform, a complex weight for
each frequency and channel, inverse transform. This equals a real circular convolution over the
window with the inverse transform of the weight; the inverse real transform drops what breaks
Hermitian symmetry in the weight's first and last column.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .operators import needs_grad, once_differentiable, operator
from .registry import Case, Operation


def frequency_modulation(
    x: Tensor, weight: Tensor, *, residual: Tensor | None = None, impl: str | None = None
) -> Tensor:
    """irfft2(rfft2(window) * weight) for every P x P window and channel, plus the residual.

    Args:
        x: [B, H, W, C], float; H and W are multiples of P.
        weight: [P, P // 2 + 1, C, 2], real and imaginary parts, P even.
        residual: [B, H, W, C] to add to the result, or None.
        impl: "reference" or another implementation's name; None picks by device.

    Returns:
        [B, H, W, C] of x's dtype. The transforms run in float32, for float64 inputs in float64.

    Raises:
        ValueError: shapes that do not fit together.
    """
    _check(x, weight, residual)
    modulate = FREQUENCY_MODULATION.choose_for(impl, x, weight, residual)
    return modulate(x, weight, residual=residual)


def _check(x: Tensor, weight: Tensor, residual: Tensor | None) -> None:
    if weight.dim() != 4 or weight.shape[3] != 2 or weight.shape[1] != weight.shape[0] // 2 + 1:
        raise ValueError(f"weight must be [P, P // 2 + 1, C, 2], not {list(weight.shape)}")
    size, _, channels, _ = weight.shape
    if size % 2:
        raise ValueError(f"the modulation window must be even, not {size}")
    if x.dim() != 4 or x.shape[3] != channels or x.shape[1] % size or x.shape[2] % size:
        raise ValueError(
            f"x must be [B, H, W, {channels}] with H and W multiples of {size}, not {list(x.shape)}"
        )
    if residual is not None and residual.shape != x.shape:
        raise ValueError(f"residual must be {list(x.shape)} as x is, not {list(residual.shape)}")


def reference(x: Tensor, weight: Tensor, *, residual: Tensor | None) -> Tensor:
    """The eager reference: plain differentiable PyTorch, any device and float dtype."""
    (batch, height, width, channels), size = x.shape, weight.shape[0]
    compute = torch.promote_types(x.dtype, torch.float32)
    if not x.numel():  # PyTorch transforms no empty tensors; the gradients are empty and zero
        out = (x * weight.sum()).to(x.dtype)
        return out if residual is None else residual + out
    windows = x.to(compute).reshape(batch, height // size, size, width // size, size, channels)
    spectrum = torch.fft.rfft2(windows, dim=(2, 4), norm="ortho")
    filters = torch.view_as_complex(weight.to(compute).contiguous())
    spectrum = spectrum * filters[:, None]
    windows = torch.fft.irfft2(spectrum, s=(size, size), dim=(2, 4), norm="ortho")
    out = windows.reshape(x.shape).to(x.dtype)
    return out if residual is None else residual + out


def allocate(x, weight, residual):
    dtype = x.dtype if residual is None else torch.promote_types(x.dtype, residual.dtype)
    return x.new_empty(x.shape, dtype=dtype)


def allocate_backward(grad, x, weight):
    return x.new_empty(x.shape), weight.new_empty(weight.shape)


_FORWARD = operator(
    "frequency_modulation(Tensor x, Tensor weight, Tensor? residual, str impl) -> Tensor", allocate
)
_BACKWARD = operator(
    "frequency_modulation_backward(Tensor grad, Tensor x, Tensor weight, str impl) "
    "-> (Tensor, Tensor)",
    allocate_backward,
)


class _FrequencyModulation(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, residual, impl):
        ctx.save_for_backward(x, weight)
        ctx.impl, ctx.residual_dtype = impl, None if residual is None else residual.dtype
        return _FORWARD(x, weight, residual, impl)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        dx, dweight = _BACKWARD(grad, *ctx.saved_tensors, ctx.impl)
        return (
            dx,
            dweight,
            None if ctx.residual_dtype is None else grad.to(ctx.residual_dtype),
            None,
        )


def compute(x: Tensor, weight: Tensor, *, residual: Tensor | None, impl: str) -> Tensor:
    """By the back end `impl`."""
    run = _FrequencyModulation.apply if needs_grad(x, weight, residual) else _FORWARD
    return run(x, weight, residual, impl)


def _case(name: str, shape: tuple[int, int, int, int], size: int, with_residual: bool) -> Case:
    def make(generator: torch.Generator, dtype: torch.dtype) -> dict:
        draw = lambda *dims: torch.randn(*dims, generator=generator, dtype=torch.float64)  # noqa: E731
        weight = 0.2 * draw(size, size // 2 + 1, shape[3], 2)
        weight[..., 0] += 1
        return {
            "x": draw(*shape).to(dtype),
            "weight": weight.to(torch.promote_types(dtype, torch.float32)),
            "residual": draw(*shape).to(dtype) if with_residual else None,
        }

    return Case(name, make)


FREQUENCY_MODULATION = Operation(
    name="frequency_modulation",
    reference=reference,
    compute=compute,
    cases=(
        _case("16", (1, 16, 32, 24), 16, False),
        _case("16-residual", (3, 16, 16, 20), 16, True),
        _case("4", (2, 8, 12, 40), 4, False),
        _case("4-residual", (1, 12, 4, 7), 4, True),
    ),
    benchmarks=(
        _case("16-residual", (1, 256, 384, 96), 16, True),
        _case("4-residual", (1, 16, 24, 256), 4, True),
    ),
    tolerances={
        torch.float64: 1e-12,
        torch.float32: 1e-6,
        torch.bfloat16: 8e-3,
        torch.float16: 1e-3,
    },
    differentiable=("x", "weight", "residual"),
)
