"""A 3x3 convolution with what follows it in a residual block: contract and eager reference.

Leaky ReLU, sub-pixel shuffle (Shi et al., 2016), GDN and a residual, each part optional:
residual + gdn(shuffle(leaky_relu(convolution(x)))). Source of the blocks: compressai.layers,
ResidualBlockWithStride and ResidualBlockUpsample.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .gdn import gdn
from .gdn import reference as normalise
from .operators import gradients_like, needs_grad, once_differentiable, operator
from .registry import Case, Operation


def conv3x3(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int = 1,
    leaky: bool = False,
    shuffle: int = 1,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    inverse: bool = False,
    residual: Tensor | None = None,
    impl: str | None = None,
) -> Tensor:
    """3x3 convolution, zero padded by 1, and its epilogue; what is None or False is left out.

    Args:
        x: [B, H, W, C], float.
        weight: [N, C, 3, 3].
        bias: [N].
        stride: in both directions; H' = (H - 1) // stride + 1 and W' likewise.
        leaky: whether a leaky ReLU of slope 0.01 follows the bias.
        shuffle: r of the sub-pixel shuffle [B, H', W', N] -> [B, r H', r W', N / r^2], channels
            as nn.PixelShuffle has them; 1 for none.
        gamma, beta: [N, N] and [N], GDN's values after reparametrisation; both or none, and only
            without a shuffle.
        inverse: IGDN instead of GDN.
        residual: of the result's shape.
        impl: "reference" or another implementation's name; None picks by device.

    Returns:
        [B, r H', r W', N / r^2] of x's dtype (of the wider one of x's and residual's). Under
        autocast x, weight and bias are cast as for F.conv2d. Products accumulate in float32 at
        least, GDN as in `gdn`.

    Raises:
        ValueError: shapes that do not fit together.
    """
    _check(x, weight, bias, stride, shuffle, gamma, beta, residual)
    convolve = CONV3X3.choose_for(impl, x, weight, bias, gamma, beta, residual)
    return convolve(
        x, weight, bias, stride=stride, leaky=leaky, shuffle=shuffle, gamma=gamma, beta=beta,
        inverse=inverse, residual=residual,
    )  # fmt: skip


def result_shape(x: Tensor, weight: Tensor, stride: int, shuffle: int) -> list[int]:
    batch, height, width, _ = x.shape
    lengths = ((length - 1) // stride + 1 for length in (height, width))
    return [batch, *(shuffle * length for length in lengths), weight.shape[0] // shuffle**2]


def _check(x, weight, bias, stride, shuffle, gamma, beta, residual) -> None:
    if x.dim() != 4 or 0 in x.shape[1:]:
        raise ValueError(f"x must be [B, H, W, C] with pixels and channels, not {list(x.shape)}")
    channels, outputs = x.shape[3], weight.shape[0]
    if list(weight.shape[1:]) != [channels, 3, 3]:
        raise ValueError(f"weight must be [N, {channels}, 3, 3], not {list(weight.shape)}")
    if bias is not None and list(bias.shape) != [outputs]:
        raise ValueError(f"bias must be [{outputs}], not {list(bias.shape)}")
    if stride < 1:
        raise ValueError(f"stride must be at least 1, not {stride}")
    if shuffle < 1 or outputs % shuffle**2:
        raise ValueError(f"{outputs} outputs cannot be shuffled by {shuffle}")
    if (gamma is None) != (beta is None):
        raise ValueError("gamma and beta come together")
    if gamma is not None:
        if shuffle > 1:
            raise ValueError("GDN goes without a shuffle")
        if list(gamma.shape) != [outputs, outputs] or list(beta.shape) != [outputs]:
            raise ValueError(
                f"gamma must be [{outputs}, {outputs}] and beta [{outputs}], "
                f"not {list(gamma.shape)} and {list(beta.shape)}"
            )
    expected = result_shape(x, weight, stride, shuffle)
    if residual is not None and list(residual.shape) != expected:
        raise ValueError(f"residual must be {expected}, not {list(residual.shape)}")


def reference(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, stride: int = 1,
    leaky: bool = False, shuffle: int = 1, gamma: Tensor | None = None, beta: Tensor | None = None,
    inverse: bool = False, residual: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The eager reference: plain differentiable PyTorch, any device and float dtype."""
    out = _convolve(x, weight, bias, stride, leaky, shuffle)
    if gamma is not None:
        return normalise(out, gamma, beta, inverse=inverse, residual=residual)
    return out if residual is None else residual + out


def _convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, leaky: bool, shuffle: int
) -> Tensor:
    weight, bias = weight.to(x.dtype), None if bias is None else bias.to(x.dtype)
    out = F.conv2d(x.permute(0, 3, 1, 2), weight, bias, stride=stride, padding=1)
    out = F.leaky_relu(out) if leaky else out
    return F.pixel_shuffle(out, shuffle).permute(0, 2, 3, 1)


def allocate(x, weight, bias, gamma, beta, residual, stride, leaky, shuffle, inverse):
    dtype = x.dtype if residual is None else torch.promote_types(x.dtype, residual.dtype)
    return x.new_empty(result_shape(x, weight, stride, shuffle), dtype=dtype)


def allocate_backward(grad, out, x, weight, bias, stride, shuffle, with_dx, with_parameters):
    """What is not wanted is empty, as is dbias where there is no bias."""
    dx = x.new_empty(x.shape if with_dx else 0)
    if not with_parameters:
        return dx, x.new_empty(0), x.new_empty(0)
    empty = [None if p is None else p.new_empty(p.shape) for p in (weight, bias)]
    return dx, *gradients_like((weight, bias), empty)


_FORWARD = operator(
    "conv3x3(Tensor x, Tensor weight, Tensor? bias, Tensor? gamma, Tensor? beta, Tensor? residual, "
    "int stride, bool leaky, int shuffle, bool inverse, str impl) -> Tensor",
    allocate,
)
_BACKWARD = operator(
    "conv3x3_backward(Tensor grad, Tensor? out, Tensor x, Tensor weight, Tensor? bias, int stride, "
    "int shuffle, bool with_dx, bool with_parameters, str impl) -> (Tensor, Tensor, Tensor)",
    allocate_backward,
)


class _Convolution(torch.autograd.Function):
    """Convolution, leaky ReLU and shuffle."""

    @staticmethod
    def forward(ctx, x, weight, bias, stride, leaky, shuffle, impl):
        out = _FORWARD(x, weight, bias, None, None, None, stride, leaky, shuffle, False, impl)
        # The sign of out is that of the leaky ReLU's input.
        ctx.save_for_backward(out if leaky else None, x, weight, bias)
        ctx.settings = stride, shuffle
        ctx.impl = impl
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        needed, bias = ctx.needs_input_grad, ctx.saved_tensors[3]
        wanted = needed[0], needed[1] or needed[2]
        found = _BACKWARD(grad, *ctx.saved_tensors, *ctx.settings, *wanted, ctx.impl)
        there = wanted[0], wanted[1], wanted[1] and bias is not None
        gradients = (g if is_there else None for g, is_there in zip(found, there, strict=True))
        return *gradients, None, None, None, None


def compute(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, stride: int = 1,
    leaky: bool = False, shuffle: int = 1, gamma: Tensor | None = None, beta: Tensor | None = None,
    inverse: bool = False, residual: Tensor | None = None, impl: str,
) -> Tensor:  # fmt: skip
    """By the back end `impl`."""
    if torch.is_autocast_enabled(x.device.type):
        x = x.to(torch.get_autocast_dtype(x.device.type))
    if not needs_grad(x, weight, bias, gamma, beta, residual):
        after = gamma, beta, residual, stride, leaky, shuffle, inverse
        return _FORWARD(x, weight, bias, *after, impl)
    out = _Convolution.apply(x, weight, bias, stride, leaky, shuffle, impl)
    if gamma is not None:
        return gdn(out, gamma, beta, inverse=inverse, residual=residual, impl=impl)
    return out if residual is None else residual + out


def _case(
    name: str, shape: tuple[int, int, int, int], outputs: int, parts: str, stride: int = 1,
    shuffle: int = 1,
) -> Case:  # fmt: skip
    def make(generator: torch.Generator, dtype: torch.dtype) -> dict:
        channels = shape[3]
        wide = torch.promote_types(dtype, torch.float32)

        def draw(*dims):
            return torch.randn(*dims, generator=generator, dtype=torch.float64)

        x, weight = draw(*shape), draw(outputs, channels, 3, 3) * (9 * channels) ** -0.5
        with_gdn, eye = "gdn" in parts, torch.eye(outputs)
        return {
            "x": x.to(dtype),
            "weight": weight.to(dtype),
            "bias": draw(outputs).to(dtype) if "bias" in parts else None,
            "stride": stride,
            "leaky": "leaky" in parts,
            "shuffle": shuffle,
            "gamma": (0.1 * eye + 0.02 * draw(*eye.shape).abs()).to(wide) if with_gdn else None,
            "beta": (1 + 0.2 * draw(outputs).abs()).to(wide) if with_gdn else None,
            "inverse": "igdn" in parts,
            "residual": (
                draw(*result_shape(x, weight, stride, shuffle)).to(dtype)
                if "residual" in parts
                else None
            ),
        }

    return Case(name, make)


CONV3X3 = Operation(
    name="conv3x3",
    reference=reference,
    compute=compute,
    cases=(
        _case("gdn", (1, 7, 50, 48), 48, "bias gdn residual"),
        _case("igdn", (2, 5, 9, 20), 24, "bias igdn residual"),
        _case("stride", (2, 9, 6, 24), 40, "bias leaky", stride=2),
        _case("shuffle", (1, 6, 5, 32), 64, "bias leaky residual", shuffle=2),
        _case("last", (1, 4, 6, 24), 12, "bias residual", shuffle=2),
        _case("stride3", (2, 8, 7, 16), 18, "bias leaky", stride=3),
        _case("stride5", (1, 9, 12, 5), 16, "residual", stride=5),
        _case("narrow", (2, 5, 1, 16), 16, "residual"),
        _case("first", (1, 8, 10, 3), 20, "bias leaky", stride=2),
        _case("small", (1, 5, 6, 12), 12, "bias gdn residual"),
    ),
    benchmarks=(
        _case("gdn-64x96x256", (1, 64, 96, 256), 256, "bias gdn residual"),
        _case("stride-64x96x256", (1, 64, 96, 256), 320, "bias", stride=2),
        # No leaky ReLU: of so many values some lie within rounding of its kink, on either side.
        _case("shuffle-64x96x256", (1, 64, 96, 256), 576, "bias", shuffle=2),
    ),
    tolerances={
        torch.float64: 1e-12,
        torch.float32: 1e-5,
        torch.bfloat16: 2e-2,
        torch.float16: 3e-3,
    },
    differentiable=("x", "weight", "bias", "gamma", "beta", "residual"),
)
