"""A whole frequency-aware transformer (FAT) block: contract and eager reference.

Source: Li et al., "Frequency-Aware Transformer for Learned Image Compression", ICLR 2024,
section 3.1.

    t = conv1_1(x)
    t = t + proj(window_attention(qkv(norm1(t))))
    t = t + frequency_modulation(contract(gelu(expand(norm2(t)))))
    out = x + conv1_2(t)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .frequency_modulation import frequency_modulation
from .frequency_modulation import reference as modulate
from .fused_linear import fused_linear
from .operators import needs_grad, once_differentiable, operator
from .registry import Case, Operation
from .window_attention import BRANCHES, branch_windows, check_geometry, window_attention
from .window_attention import reference as attend


class FATParameters(NamedTuple):
    """A block's parameters; Linear weights are [outputs, inputs]. C channels."""

    conv1_1_weight: Tensor  # [C, C]
    conv1_1_bias: Tensor  # [C]
    norm1_weight: Tensor  # [C]
    norm1_bias: Tensor  # [C]
    qkv_weight: Tensor  # [3 C, C]
    table0: Tensor  # the branches' relative position bias tables, as window_attention takes them
    table1: Tensor
    table2: Tensor
    table3: Tensor
    proj_weight: Tensor  # [C, C]
    proj_bias: Tensor  # [C]
    norm2_weight: Tensor  # [C]
    norm2_bias: Tensor  # [C]
    expand_weight: Tensor  # [4 C, C]
    expand_bias: Tensor  # [4 C]
    contract_weight: Tensor  # [C, 4 C]
    contract_bias: Tensor  # [C]
    complex_weight: Tensor  # [P, P // 2 + 1, C, 2], as frequency_modulation takes it
    conv1_2_weight: Tensor  # [C, C]
    conv1_2_bias: Tensor  # [C]

    @property
    def tables(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.table0, self.table1, self.table2, self.table3


PRODUCTS = (
    "conv1_1_weight", "qkv_weight", "proj_weight", "expand_weight", "contract_weight",
    "conv1_2_weight",
)  # fmt: skip
"""The parameters whose operands' type is that of x."""


def fat_block(
    x: Tensor,
    parameters: Sequence[Tensor],
    *,
    num_heads: int,
    window: int = 8,
    shifted: bool = False,
    eps: float = 1e-5,
    impl: str | None = None,
) -> Tensor:
    """One plain ("W") or shifted ("SW") block.

    Args:
        x: [B, H, W, C], float; H and W multiples of 2 * window and of the modulation's P.
        parameters: the twenty tensors of `FATParameters`, in that order; they may be wider than x.
        num_heads, window, shifted: as for `window_attention`.
        eps: of the LayerNorms.
        impl: "reference" or another implementation's name; None picks by device.

    Returns:
        [B, H, W, C] of x's dtype, which is also that of the products' operands; sums, norms, the
        softmax and the modulation run in float32 at least.

    Raises:
        ValueError: shapes that do not fit together.
    """
    _check(x, parameters, num_heads, window)
    block = FAT_BLOCK.choose_for(impl, x, *parameters)
    return block(x, parameters, num_heads=num_heads, window=window, shifted=shifted, eps=eps)


def fat_parameters(block: nn.Module) -> FATParameters:
    """The parameters of a module with the published names: conv1_1, trans_block and conv1_2."""
    inner = block.trans_block
    expand, contract = (m for m in inner.ffn.modules() if isinstance(m, nn.Linear))
    return FATParameters(
        block.conv1_1.weight.flatten(1), block.conv1_1.bias, inner.norm1.weight, inner.norm1.bias,
        inner.qkv.weight, *(branch.relative_position_bias_table for branch in inner.attns),
        inner.proj.weight, inner.proj.bias, inner.norm2.weight, inner.norm2.bias, expand.weight,
        expand.bias, contract.weight, contract.bias, inner.fm.complex_weight,
        block.conv1_2.weight.flatten(1), block.conv1_2.bias,
    )  # fmt: skip


def _check(x: Tensor, parameters: Sequence[Tensor], num_heads: int, window: int) -> None:
    if len(parameters) != len(FATParameters._fields):
        raise ValueError(
            f"a FAT block has {len(FATParameters._fields)} parameters, not {len(parameters)}"
        )
    if x.dim() != 4:
        raise ValueError(f"x must be [B, H, W, C], not {list(x.shape)}")
    given, (_, height, width, c) = FATParameters(*parameters), x.shape
    size = given.complex_weight.shape[0]
    if height % size or width % size:
        raise ValueError(f"height and width must be multiples of {size}, not {height} x {width}")
    check_geometry(height, width, c, num_heads, window)
    tables = [
        [(2 * wh - 1) * (2 * ww - 1), num_heads // BRANCHES] for wh, ww in branch_windows(window)
    ]
    expected = (
        [c, c], [c], [c], [c], [3 * c, c], *tables, [c, c], [c], [c], [c], [4 * c, c], [4 * c],
        [c, 4 * c], [c], [size, size // 2 + 1, c, 2], [c, c], [c],
    )  # fmt: skip
    for name, tensor, shape in zip(given._fields, given, expected, strict=True):
        if list(tensor.shape) != shape:
            raise ValueError(f"{name} must be {shape}, not {list(tensor.shape)}")


def reference(
    x: Tensor, parameters: Sequence[Tensor], *, num_heads: int, window: int, shifted: bool,
    eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """The eager reference: plain differentiable PyTorch, any device and float dtype."""
    p = FATParameters(*(tensor.to(x.dtype) for tensor in parameters))
    channels = x.shape[3:]
    t = F.linear(x, p.conv1_1_weight, p.conv1_1_bias)
    qkv = F.linear(F.layer_norm(t, channels, p.norm1_weight, p.norm1_bias, eps), p.qkv_weight)
    attended = attend(qkv, p.tables, num_heads=num_heads, window=window, shifted=shifted)
    t = t + F.linear(attended, p.proj_weight, p.proj_bias)
    hidden = F.layer_norm(t, channels, p.norm2_weight, p.norm2_bias, eps)
    hidden = F.gelu(F.linear(hidden, p.expand_weight, p.expand_bias))
    hidden = F.linear(hidden, p.contract_weight, p.contract_bias)
    weight = FATParameters(*parameters).complex_weight
    t = modulate(hidden, weight, residual=t)
    return x + F.linear(t, p.conv1_2_weight, p.conv1_2_bias)


def composed(
    x: Tensor, parameters: Sequence[Tensor], *, num_heads: int, window: int, shifted: bool,
    eps: float = 1e-5, impl: str | None = None,
) -> Tensor:  # fmt: skip
    """The block as six products, the attention and the modulation, each a differentiable operation.

    impl: of these operations.
    """
    p = FATParameters(
        *(
            tensor.to(x.dtype) if name in PRODUCTS else tensor
            for name, tensor in zip(FATParameters._fields, parameters, strict=True)
        )
    )
    t = fused_linear(x, p.conv1_1_weight, p.conv1_1_bias, impl=impl)
    qkv = fused_linear(
        t, p.qkv_weight, norm_weight=p.norm1_weight, norm_bias=p.norm1_bias, eps=eps, impl=impl
    )
    attended = window_attention(
        qkv, p.tables, num_heads=num_heads, window=window, shifted=shifted, impl=impl
    )
    t = fused_linear(attended, p.proj_weight, p.proj_bias, residual=t, impl=impl)
    hidden = fused_linear(
        t, p.expand_weight, p.expand_bias, norm_weight=p.norm2_weight, norm_bias=p.norm2_bias,
        gelu=True, eps=eps, impl=impl,
    )  # fmt: skip
    hidden = fused_linear(hidden, p.contract_weight, p.contract_bias, impl=impl)
    t = frequency_modulation(hidden, p.complex_weight, residual=t, impl=impl)
    return fused_linear(t, p.conv1_2_weight, p.conv1_2_bias, residual=x, impl=impl)


def allocate(x, parameters, num_heads, window, shifted, eps, keep):
    """Results without values: out and, for the way back, attention's results and lse."""
    tokens = x.numel() // x.shape[3] if keep else 0
    return (
        x.new_empty(x.shape),
        x.new_empty(x.shape if keep else 0),
        x.new_empty(num_heads, tokens, dtype=torch.float32),
    )


def allocate_backward(
    grad, x, attended, lse, parameters, num_heads, window, shifted, eps, with_parameters
):
    """dx, and the parameters' gradients where they are wanted."""
    if not with_parameters:
        return [x.new_empty(x.shape)]
    return [x.new_empty(x.shape), *(t.new_empty(t.shape) for t in parameters)]


_FORWARD = operator(
    "fat_block(Tensor x, Tensor[] parameters, int num_heads, int window, bool shifted, float eps, "
    "bool keep, str impl) -> (Tensor, Tensor, Tensor)",
    allocate,
)
_BACKWARD = operator(
    "fat_block_backward(Tensor grad, Tensor x, Tensor attended, Tensor lse, Tensor[] parameters, "
    "int num_heads, int window, bool shifted, float eps, bool with_parameters, str impl) "
    "-> Tensor[]",
    allocate_backward,
)


class _FATBlock(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, num_heads, window, shifted, eps, impl, *parameters):
        settings = num_heads, window, shifted, eps
        out, attended, lse = _FORWARD(x, parameters, *settings, True, impl)
        ctx.save_for_backward(x, attended, lse, *parameters)
        ctx.settings, ctx.impl = settings, impl
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, attended, lse, *parameters = ctx.saved_tensors
        wanted = any(ctx.needs_input_grad[6:])
        dx, *gradients = _BACKWARD(
            grad, x, attended, lse, parameters, *ctx.settings, wanted, ctx.impl
        )
        return dx, None, None, None, None, None, *(gradients or [None] * len(parameters))


def compute(
    x: Tensor, parameters: Sequence[Tensor], *, num_heads: int, window: int, shifted: bool,
    eps: float = 1e-5, impl: str,
) -> Tensor:  # fmt: skip
    """By the back end `impl`; in Triton, and under autocast, composed of its operations."""
    settings = num_heads, window, shifted, eps
    if impl == "triton" or torch.is_autocast_enabled(x.device.type):
        return composed(
            x, parameters, num_heads=num_heads, window=window, shifted=shifted, eps=eps, impl=impl
        )
    if needs_grad(x, *parameters):
        return _FATBlock.apply(x, *settings, impl, *parameters)
    return _FORWARD(x, list(parameters), *settings, False, impl)[0]


def _case(
    name: str, shape: tuple[int, int, int], dim: int, heads: int, windows: tuple[int, int],
    shifted: bool,
) -> Case:  # fmt: skip
    window, size = windows

    def make(generator: torch.Generator, dtype: torch.dtype) -> dict:
        c = dim * heads

        def draw(*dims: int, scale: float = 1.0) -> Tensor:
            drawn = torch.randn(*dims, generator=generator, dtype=torch.float64)
            return (scale * drawn).to(dtype)

        def linear(outputs: int, inputs: int) -> Tensor:
            return draw(outputs, inputs, scale=inputs**-0.5)

        complex_weight = draw(size, size // 2 + 1, c, 2, scale=0.2)
        complex_weight[..., 0] += 1
        tables = (
            draw((2 * wh - 1) * (2 * ww - 1), heads // BRANCHES, scale=0.5)
            for wh, ww in branch_windows(window)
        )
        parameters = FATParameters(
            linear(c, c), draw(c), 1 + draw(c, scale=0.3), draw(c), linear(3 * c, c), *tables,
            linear(c, c), draw(c), 1 + draw(c, scale=0.3), draw(c), linear(4 * c, c), draw(4 * c),
            linear(c, 4 * c), draw(c), complex_weight, linear(c, c), draw(c),
        )  # fmt: skip
        return {
            "x": draw(*shape, c),
            "parameters": list(parameters),
            "num_heads": heads,
            "window": window,
            "shifted": shifted,
        }

    return Case(name, make)


FAT_BLOCK = Operation(
    name="fat_block",
    reference=reference,
    compute=compute,
    cases=(
        _case("plain-dim12", (1, 16, 32), 12, 8, (8, 16), False),
        _case("shifted-dim9", (2, 32, 16), 9, 4, (8, 16), True),
        _case("hyper-plain", (1, 8, 12), 8, 8, (2, 4), False),
        _case("hyper-shifted", (3, 4, 4), 6, 4, (2, 4), True),
    ),
    benchmarks=(
        _case("96-plain", (1, 256, 384), 12, 8, (8, 16), False),
        _case("96-shifted", (1, 256, 384), 12, 8, (8, 16), True),
        _case("144-plain", (1, 128, 192), 9, 16, (8, 16), False),
        _case("144-shifted", (1, 128, 192), 9, 16, (8, 16), True),
        _case("256-plain", (1, 64, 96), 8, 32, (8, 16), False),
        _case("256-shifted", (1, 64, 96), 8, 32, (8, 16), True),
        _case("hyper-shifted", (1, 16, 24), 8, 32, (2, 4), True),
    ),
    tolerances={
        torch.float64: 1e-12,
        torch.float32: 1e-5,
        torch.bfloat16: 3e-2,
        torch.float16: 5e-3,
    },
    differentiable=("x", "parameters"),
    composed=("triton",),
)
