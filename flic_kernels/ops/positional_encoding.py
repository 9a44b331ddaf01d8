"""The head of a T-CA layer, from the image to encoded windows: contract and eager reference.

Source: Li et al., "Frequency-Aware Transformer for Learned Image Compression", ICLR 2024, section
3.4; the conditional positional encoding is Chu et al., 2021. In windows of the image, with one
group of channels a slice: w = GroupNorm(u), result = w + gelu(GroupNorm(depthwise 3x3(w))).
Statistics are over a window and slice; the convolution sees zeros beyond the window's border.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .operators import needs_grad, once_differentiable, operator
from .registry import Case, Operation


def positional_encoding(
    u: Tensor,
    norm1_weight: Tensor,
    norm1_bias: Tensor,
    conv_weight: Tensor,
    conv_bias: Tensor,
    norm2_weight: Tensor,
    norm2_bias: Tensor,
    *,
    slices: int,
    window: int = 8,
    eps: float = 1e-5,
    impl: str | None = None,
) -> Tensor:
    """Windows of u, normalised and positionally encoded.

    Args:
        u: [B, H, W, C], float; H and W multiples of `window`, C of `slices`.
        norm1_weight, norm1_bias, conv_bias, norm2_weight, norm2_bias: [C].
        conv_weight: [C, 1, 3, 3].
        slices: number of groups of both GroupNorms.
        eps: of both GroupNorms.
        impl: "reference" or another implementation's name; None picks by device.

    Returns:
        [B H/window W/window, window^2, C] of u's dtype. Everything is computed in float32 at least.

    Raises:
        ValueError: shapes that do not fit together.
    """
    vectors = (norm1_weight, norm1_bias, conv_bias, norm2_weight, norm2_bias)
    if u.dim() != 4 or u.shape[1] % window or u.shape[2] % window or u.shape[3] % slices:
        raise ValueError(
            f"u must be [B, H, W, C] with H and W multiples of {window} and C of {slices}, "
            f"not {list(u.shape)}"
        )
    channels = u.shape[3]
    if list(conv_weight.shape) != [channels, 1, 3, 3]:
        raise ValueError(
            f"conv_weight must be [{channels}, 1, 3, 3], not {list(conv_weight.shape)}"
        )
    if any(list(vector.shape) != [channels] for vector in vectors):
        shapes = ", ".join(str(list(vector.shape)) for vector in vectors)
        raise ValueError(f"the norms' parameters and conv_bias must be [{channels}], not {shapes}")
    parameters = (norm1_weight, norm1_bias, conv_weight, conv_bias, norm2_weight, norm2_bias)
    encode = POSITIONAL_ENCODING.choose_for(impl, u, *parameters)
    return encode(u, *parameters, slices=slices, window=window, eps=eps)


def to_windows(u: Tensor, window: int) -> Tensor:
    """[B, H, W, C] -> [B H/window W/window, C, window, window], in channels_last format."""
    batch, height, width, channels = u.shape
    u = u.reshape(batch, height // window, window, width // window, window, channels)
    return u.transpose(2, 3).reshape(-1, window, window, channels).permute(0, 3, 1, 2)


def from_windows(windows: Tensor, height: int, width: int) -> Tensor:
    """[B H/window W/window, C, window, window] -> [B, H, W, C]."""
    _, channels, window, _ = windows.shape
    u = windows.permute(0, 2, 3, 1)
    u = u.reshape(-1, height // window, width // window, window, window, channels)
    return u.transpose(2, 3).reshape(-1, height, width, channels)


def reference(
    u: Tensor, norm1_weight: Tensor, norm1_bias: Tensor, conv_weight: Tensor, conv_bias: Tensor,
    norm2_weight: Tensor, norm2_bias: Tensor, *, slices: int, window: int = 8, eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """The eager reference: plain differentiable PyTorch, any device and float dtype."""
    dtype = torch.promote_types(u.dtype, torch.float32)
    weight1, bias1, weight, bias, weight2, bias2 = (
        t.to(dtype)
        for t in (norm1_weight, norm1_bias, conv_weight, conv_bias, norm2_weight, norm2_bias)
    )
    with torch.autocast(u.device.type, enabled=False):
        w = F.group_norm(to_windows(u.to(dtype), window), slices, weight1, bias1, eps)
        encoded = F.conv2d(w, weight, bias, padding=1, groups=u.shape[3])
        w = w + F.gelu(F.group_norm(encoded, slices, weight2, bias2, eps))
    return w.permute(0, 2, 3, 1).flatten(1, 2).to(u.dtype)


def allocate(u, parameters, slices, window, eps):
    batch, height, width, channels = u.shape
    windows = batch * (height // window) * (width // window)
    return u.new_empty(windows, window * window, channels)


def allocate_backward(grad, u, parameters, slices, window, eps):
    return [u.new_empty(u.shape), *(t.new_empty(t.shape) for t in parameters)]


_FORWARD = operator(
    "positional_encoding(Tensor u, Tensor[] parameters, int slices, int window, float eps, "
    "str impl) -> Tensor",
    allocate,
)
_BACKWARD = operator(
    "positional_encoding_backward(Tensor grad, Tensor u, Tensor[] parameters, int slices, "
    "int window, float eps, str impl) -> Tensor[]",
    allocate_backward,
)


class _PositionalEncoding(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u, slices, window, eps, impl, *parameters):
        ctx.save_for_backward(u, *parameters)
        ctx.settings = slices, window, eps, impl
        return _FORWARD(u, parameters, *ctx.settings)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        u, *parameters = ctx.saved_tensors
        du, *gradients = _BACKWARD(grad, u, parameters, *ctx.settings)
        return du, None, None, None, None, *gradients


def compute(
    u: Tensor, *parameters: Tensor, slices: int, window: int = 8, eps: float = 1e-5, impl: str
) -> Tensor:
    """By the back end `impl`; `parameters` in the order of the contract."""
    if needs_grad(u, *parameters):
        return _PositionalEncoding.apply(u, slices, window, eps, impl, *parameters)
    return _FORWARD(u, parameters, slices, window, eps, impl)


def _case(name: str, shape: tuple[int, int, int, int], slices: int, window: int) -> Case:
    def make(generator: torch.Generator, dtype: torch.dtype) -> dict:
        channels = shape[3]
        wide = torch.promote_types(dtype, torch.float32)

        def draw(*dims):
            return torch.randn(*dims, generator=generator, dtype=torch.float64)

        return {
            "u": (0.5 + 2 * draw(*shape)).to(dtype),
            "norm1_weight": (1 + 0.3 * draw(channels)).to(wide),
            "norm1_bias": (0.3 * draw(channels)).to(wide),
            "conv_weight": (0.3 * draw(channels, 1, 3, 3)).to(wide),
            "conv_bias": (0.3 * draw(channels)).to(wide),
            "norm2_weight": (1 + 0.3 * draw(channels)).to(wide),
            "norm2_bias": (0.3 * draw(channels)).to(wide),
            "slices": slices,
            "window": window,
        }

    return Case(name, make)


POSITIONAL_ENCODING = Operation(
    name="positional_encoding",
    reference=reference,
    compute=compute,
    cases=(
        _case("base", (1, 8, 16, 5 * 32), 5, 8),
        _case("batch", (3, 16, 8, 4 * 12), 4, 8),
        _case("window4", (1, 8, 4, 3 * 5), 3, 4),
    ),
    benchmarks=(_case("base", (1, 32, 48, 5 * 256), 5, 8),),
    tolerances={
        torch.float64: 1e-12,
        torch.float32: 5e-6,
        torch.bfloat16: 1e-2,
        torch.float16: 1e-3,
    },
    differentiable=(
        "u", "norm1_weight", "norm1_bias", "conv_weight", "conv_bias", "norm2_weight", "norm2_bias",
    ),
)  # fmt: skip
