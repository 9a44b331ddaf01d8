"""The head of a T-CA layer, from the image to encoded windows: contract and eager reference.

Source: Li et al., "Frequency-Aware Transformer for Learned Image Compression", ICLR 2024, section
3.4; the conditional positional encoding is Chu et al., 2021. In windows of the image, with one
group of channels a slice: w = GroupNorm(u), result = w + gelu(GroupNorm(depthwise 3x3(w))).
Statistics are over a window and slice; the convolution sees zeros beyond the window's border.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .registry import Case, Operation, cpu_kernel, triton_kernel


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
    compute = POSITIONAL_ENCODING.choose_for(u, impl, u.dtype)
    return compute(
        u, norm1_weight, norm1_bias, conv_weight, conv_bias, norm2_weight, norm2_bias,
        slices=slices, window=window, eps=eps,
    )  # fmt: skip


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


def gradients(
    grad: Tensor, u: Tensor, parameters: Sequence[Tensor], slices: int, window: int, eps: float
) -> tuple[Tensor, ...]:
    """The gradients of u and of the parameters, in order, from the result's: PyTorch's own kernels.

    For implementations without a backward kernel.
    """
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
        dconvolved,
        w,
        weight,
        [channels],
        [1, 1],
        [1, 1],
        [1, 1],
        False,
        [0, 0],
        channels,
        every,
    )
    dwindows, dweight1, dbias1 = aten.native_group_norm_backward(
        (grad + dw).contiguous(), windows, mean1, deviation1, weight1, *sizes, every
    )
    du = from_windows(dwindows, u.shape[1], u.shape[2]).to(u.dtype)
    found = (dweight1, dbias1, dweight, dbias, dweight2, dbias2)
    found = (g.to(t.dtype) for g, t in zip(found, parameters, strict=True))
    return du, *found


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


def _cpu():
    from ..cpu.positional_encoding import positional_encoding

    return positional_encoding


def _triton():
    from ..triton.positional_encoding import positional_encoding

    return positional_encoding


POSITIONAL_ENCODING = Operation(
    name="positional_encoding",
    reference=reference,
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
    implementations={"cpu": cpu_kernel(_cpu), "triton": triton_kernel(_triton)},
)  # fmt: skip
