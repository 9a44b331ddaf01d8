"""A 3x3 convolution with what follows it in FLIC's residual blocks: contract and eager reference.

    residual + gdn(pixel_shuffle(leaky_relu(conv2d(x))))

The residual blocks are those of CompressAI (ResidualBlockWithStride, ResidualBlockUpsample); GDN is
described in ops/gdn.py.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .gdn import gdn
from .gdn import reference as normalise
from .registry import Case, Operation, cpu_kernel, triton_kernel


def conv3x3(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int = 1,
    leaky_relu: bool = False,
    shuffle: int = 1,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    inverse: bool = False,
    residual: Tensor | None = None,
    impl: str | None = None,
) -> Tensor:
    """Zero-padded 3x3 convolution on channels-last pictures; what is left out is not done.

    Args:
        x: [B, H, W, C], float.
        weight: [N, C, 3, 3], and bias: [N]; they may be wider than x.
        stride: 1 or 2.
        leaky_relu: whether leaky ReLU of slope 0.01 follows.
        shuffle: factor r of the pixel shuffle that follows, 1 for none; N is a multiple of r^2.
        gamma, beta: [N, N] and [N], the parameters of the GDN that follows, as for `gdn`; both or
            none, and only without a pixel shuffle.
        inverse: IGDN instead of GDN.
        residual: [B, H', W', N / r^2] to add to the result.
        impl: "reference" or another implementation's name; None picks by device.

    Returns:
        [B, H', W', N / r^2] of x's dtype, H' = r * ceil(H / stride) and W' likewise. Sums are in
        float32 at least.

    Raises:
        ValueError: shapes that do not fit together.
    """
    _check(x, weight, bias, stride, shuffle, gamma, beta, residual)
    compute = CONV3X3.choose(x.device, impl, x.dtype)
    return compute(
        x, weight, bias, stride=stride, leaky_relu=leaky_relu, shuffle=shuffle, gamma=gamma,
        beta=beta, inverse=inverse, residual=residual,
    )  # fmt: skip


def out_shape(x: Tensor, weight: Tensor, stride: int, shuffle: int) -> list[int]:
    """The result's shape."""
    height, width = ((side - 1) // stride + 1 for side in x.shape[1:3])
    return [x.shape[0], height * shuffle, width * shuffle, weight.shape[0] // shuffle**2]


def _check(x, weight, bias, stride, shuffle, gamma, beta, residual) -> None:
    if x.dim() != 4 or 0 in x.shape:
        raise ValueError(f"x must be [B, H, W, C], not {list(x.shape)}")
    if stride not in (1, 2) or shuffle < 1:
        raise ValueError(f"stride must be 1 or 2 and shuffle positive, not {stride} and {shuffle}")
    outputs = weight.shape[0]
    if list(weight.shape) != [outputs, x.shape[3], 3, 3] or outputs % shuffle**2:
        raise ValueError(
            f"weight must be [N, {x.shape[3]}, 3, 3], N a multiple of {shuffle**2}, "
            f"not {list(weight.shape)}"
        )
    if bias is not None and list(bias.shape) != [outputs]:
        raise ValueError(f"bias must be [{outputs}], not {list(bias.shape)}")
    if (gamma is None) != (beta is None):
        raise ValueError("gamma and beta come together")
    if gamma is not None:
        if shuffle != 1:
            raise ValueError("GDN follows only where there is no pixel shuffle")
        if list(gamma.shape) != [outputs, outputs] or list(beta.shape) != [outputs]:
            raise ValueError(
                f"gamma must be [{outputs}, {outputs}] and beta [{outputs}], "
                f"not {list(gamma.shape)} and {list(beta.shape)}"
            )
    expected = out_shape(x, weight, stride, shuffle)
    if residual is not None and list(residual.shape) != expected:
        raise ValueError(f"residual must be {expected}, not {list(residual.shape)}")


def reference(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, stride: int = 1,
    leaky_relu: bool = False, shuffle: int = 1, gamma: Tensor | None = None,
    beta: Tensor | None = None, inverse: bool = False, residual: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The eager reference: plain differentiable PyTorch, any device and float dtype."""
    out = _convolve(x, weight, bias, stride, leaky_relu, shuffle)
    if gamma is not None:
        return normalise(out, gamma, beta, inverse=inverse, residual=residual)
    return out if residual is None else residual + out


def composed(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, stride: int = 1,
    leaky_relu: bool = False, shuffle: int = 1, gamma: Tensor | None = None,
    beta: Tensor | None = None, inverse: bool = False, residual: Tensor | None = None,
    impl: str | None = None,
) -> Tensor:  # fmt: skip
    """PyTorch's convolution and the operation `gdn`, differentiable. impl: of `gdn`."""
    out = _convolve(x, weight, bias, stride, leaky_relu, shuffle)
    if gamma is not None:
        return gdn(out, gamma, beta, inverse=inverse, residual=residual, impl=impl)
    return out if residual is None else residual + out


def _convolve(x, weight, bias, stride: int, leaky_relu: bool, shuffle: int) -> Tensor:
    bias = None if bias is None else bias.to(x.dtype)
    out = F.conv2d(x.permute(0, 3, 1, 2), weight.to(x.dtype), bias, stride=stride, padding=1)
    out = (F.leaky_relu(out) if leaky_relu else out).permute(0, 2, 3, 1)
    if shuffle == 1:
        return out
    batch, height, width, channels = out.shape
    out = out.reshape(batch, height, width, channels // shuffle**2, shuffle, shuffle)
    out = out.permute(0, 1, 4, 2, 5, 3)
    return out.reshape(batch, height * shuffle, width * shuffle, channels // shuffle**2)


def _case(name: str, shape: tuple[int, int, int, int], outputs: int, **options) -> Case:
    parts = options.pop("parts", "")

    def make(generator: torch.Generator, dtype: torch.dtype) -> dict:
        wide = torch.promote_types(dtype, torch.float32)

        def draw(*dims: int) -> Tensor:
            return torch.randn(*dims, generator=generator, dtype=torch.float64)

        x = draw(*shape).to(dtype)
        weight = (draw(outputs, shape[3], 3, 3) * (9 * shape[3]) ** -0.5).to(dtype)
        gamma = beta = residual = None
        if "gdn" in parts:
            gamma = (0.1 * torch.eye(outputs) + 0.02 * draw(outputs, outputs).abs()).to(wide)
            beta = (1 + 0.2 * draw(outputs).abs()).to(wide)
        if "residual" in parts:
            size = out_shape(x, weight, options.get("stride", 1), options.get("shuffle", 1))
            residual = draw(*size).to(dtype)
        bias = draw(outputs).to(dtype) if "bias" in parts else None
        return {
            "x": x, "weight": weight, "bias": bias, "gamma": gamma, "beta": beta,
            "residual": residual, **options,
        }  # fmt: skip

    return Case(name, make)


def _cpu():
    from ..cpu.conv3x3 import conv3x3

    return conv3x3


def _triton():
    from ..triton.launch import check_dtype

    def conv3x3(x: Tensor, *parameters: Tensor | None, **follows) -> Tensor:
        check_dtype(x)
        return composed(x, *parameters, **follows, impl="triton")

    return conv3x3


CONV3X3 = Operation(
    name="conv3x3",
    reference=reference,
    cases=(
        _case("first-layer", (2, 20, 14, 3), 24, stride=2, leaky_relu=True, parts="bias"),
        _case("gdn-residual", (1, 11, 60, 40), 40, parts="bias gdn residual"),
        _case("subpel", (2, 7, 9, 20), 128, shuffle=2, leaky_relu=True, parts="bias residual"),
        _case("last-layer", (1, 10, 21, 24), 12, shuffle=2, parts="bias"),
        _case("stride", (1, 9, 6, 33), 50, stride=2, parts="residual"),
        _case("one-pixel", (3, 1, 1, 5), 7, parts="bias"),
        _case("igdn", (1, 5, 7, 12), 12, inverse=True, parts="bias gdn residual"),
    ),
    tolerances={
        torch.float64: 1e-12,
        torch.float32: 1e-5,
        torch.bfloat16: 2e-2,
        torch.float16: 3e-3,
    },
    differentiable=("x", "weight", "bias", "gamma", "beta", "residual"),
    implementations={"cpu": cpu_kernel(_cpu), "triton": triton_kernel(_triton)},
)
