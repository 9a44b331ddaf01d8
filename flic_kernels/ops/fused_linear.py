"""A Linear with what surrounds it in a transformer block: contract and eager reference.

LayerNorm before it, bias, exact (erf) GELU and a residual after it, each part optional:
residual + gelu(norm(x) W^T + b). With groups it is a grouped 1x1 convolution on channels-last
activations.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .operators import gradients_like, needs_grad, once_differentiable, operator
from .registry import Case, Operation


def fused_linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    norm_weight: Tensor | None = None,
    norm_bias: Tensor | None = None,
    residual: Tensor | None = None,
    gelu: bool = False,
    groups: int = 1,
    eps: float = 1e-5,
    impl: str | None = None,
) -> Tensor:
    """residual + gelu(layer_norm(x) @ weight^T + bias); what is None or False is left out.

    Args:
        x: [..., groups K], float; a group's channels are contiguous.
        weight: [groups N, K], the groups' matrices below each other.
        bias: [groups N].
        norm_weight, norm_bias: [K], the LayerNorm's affine part; both or none, only for one group.
        residual: [..., groups N].
        gelu: whether the exact GELU follows the bias.
        eps: of the LayerNorm.
        impl: "reference" or another implementation's name; None picks by device.

    Returns:
        [..., groups N] of x's dtype (of the wider one of x's and residual's). Under autocast x,
        weight and bias are cast as for F.linear. Products accumulate in float32 at least.

    Raises:
        ValueError: shapes that do not fit together.
    """
    _check(x, weight, bias, norm_weight, norm_bias, residual, groups)
    linear = FUSED_LINEAR.choose_for(impl, x, weight, bias, norm_weight, norm_bias, residual)
    return linear(
        x, weight, bias, norm_weight=norm_weight, norm_bias=norm_bias, residual=residual,
        gelu=gelu, groups=groups, eps=eps,
    )  # fmt: skip


def _check(x, weight, bias, norm_weight, norm_bias, residual, groups) -> None:
    if groups < 1 or weight.dim() != 2 or weight.shape[0] % groups:
        raise ValueError(f"weight must be [{groups} N, K], not {list(weight.shape)}")
    rows, columns = weight.shape
    if x.dim() < 1 or x.shape[-1] != groups * columns:
        raise ValueError(f"x must be [..., {groups * columns}], not {list(x.shape)}")
    if bias is not None and list(bias.shape) != [rows]:
        raise ValueError(f"bias must be [{rows}], not {list(bias.shape)}")
    if (norm_weight is None) != (norm_bias is None):
        raise ValueError("norm_weight and norm_bias come together")
    if norm_weight is not None and groups != 1:
        raise ValueError("the LayerNorm needs groups = 1")
    for name, norm in (("norm_weight", norm_weight), ("norm_bias", norm_bias)):
        if norm is not None and list(norm.shape) != [columns]:
            raise ValueError(f"{name} must be [{columns}], not {list(norm.shape)}")
    if residual is not None and list(residual.shape) != [*x.shape[:-1], rows]:
        expected = [*x.shape[:-1], rows]
        raise ValueError(f"residual must be {expected}, not {list(residual.shape)}")


def reference(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, norm_weight: Tensor | None = None,
    norm_bias: Tensor | None = None, residual: Tensor | None = None, gelu: bool = False,
    groups: int = 1, eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """The eager reference: plain differentiable PyTorch, any device and float dtype."""
    if norm_weight is not None:
        x = F.layer_norm(x, x.shape[-1:], norm_weight.to(x.dtype), norm_bias.to(x.dtype), eps)
    if groups == 1:
        out = F.linear(x, weight.to(x.dtype), None if bias is None else bias.to(x.dtype))
    else:
        matrices = weight.to(x.dtype).unflatten(0, (groups, -1))
        out = torch.einsum("...gk,gnk->...gn", x.unflatten(-1, (groups, -1)), matrices)
        out = out.flatten(-2)
        out = out if bias is None else out + bias.to(out.dtype)
    out = F.gelu(out) if gelu else out
    return out if residual is None else residual + out


def allocate(x, weight, bias, norm_weight, norm_bias, residual, gelu, groups, eps):
    dtype = x.dtype if residual is None else torch.promote_types(x.dtype, residual.dtype)
    return x.new_empty((*x.shape[:-1], weight.shape[0]), dtype=dtype)


def allocate_backward(
    grad, x, weight, bias, norm_weight, norm_bias, gelu, groups, eps, with_parameters
):
    """dx, and the parameters' gradients where they are wanted."""
    if not with_parameters:
        return [x.new_empty(x.shape)]
    parameters = (weight, bias, norm_weight, norm_bias)
    empty = [None if p is None else p.new_empty(p.shape) for p in parameters]
    return [x.new_empty(x.shape), *gradients_like(parameters, empty)]


_FORWARD = operator(
    "fused_linear(Tensor x, Tensor weight, Tensor? bias, Tensor? norm_weight, Tensor? norm_bias, "
    "Tensor? residual, bool gelu, int groups, float eps, str impl) -> Tensor",
    allocate,
)
_BACKWARD = operator(
    "fused_linear_backward(Tensor grad, Tensor x, Tensor weight, Tensor? bias, "
    "Tensor? norm_weight, Tensor? norm_bias, bool gelu, int groups, float eps, "
    "bool with_parameters, str impl) -> Tensor[]",
    allocate_backward,
)


class _FusedLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, norm_weight, norm_bias, residual, gelu, groups, eps, impl):
        parameters, ctx.settings = (weight, bias, norm_weight, norm_bias), (gelu, groups, eps)
        ctx.save_for_backward(x, *parameters)
        ctx.residual_dtype = None if residual is None else residual.dtype
        ctx.impl = impl
        return _FORWARD(x, *parameters, residual, *ctx.settings, impl)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, *parameters = ctx.saved_tensors
        wanted = any(ctx.needs_input_grad[1:5])
        dx, *found = _BACKWARD(grad, x, *parameters, *ctx.settings, wanted, ctx.impl)
        found = found or [None] * 4
        gradients = (None if p is None else g for g, p in zip(found, parameters, strict=True))
        dresidual = None if ctx.residual_dtype is None else grad.to(ctx.residual_dtype)
        return dx, *gradients, dresidual, None, None, None, None


def compute(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, norm_weight: Tensor | None = None,
    norm_bias: Tensor | None = None, residual: Tensor | None = None, gelu: bool = False,
    groups: int = 1, eps: float = 1e-5, impl: str,
) -> Tensor:  # fmt: skip
    """By the back end `impl`."""
    if torch.is_autocast_enabled(x.device.type):
        if norm_weight is not None:
            x = F.layer_norm(x, x.shape[-1:], norm_weight, norm_bias, eps)
        x, norm_weight, norm_bias = x.to(torch.get_autocast_dtype(x.device.type)), None, None
    tensors = x, weight, bias, norm_weight, norm_bias, residual
    run = _FusedLinear.apply if needs_grad(*tensors) else _FORWARD
    return run(*tensors, gelu, groups, eps, impl)


def _case(name: str, lead: tuple[int, ...], k: int, n: int, groups: int, parts: str) -> Case:
    def make(generator: torch.Generator, dtype: torch.dtype) -> dict:
        def draw(*dims):
            return torch.randn(*dims, generator=generator, dtype=torch.float64).to(dtype)

        norm = "norm" in parts
        return {
            "x": 1 + 2 * draw(*lead, groups * k),
            "weight": draw(groups * n, k) * k**-0.5,
            "bias": draw(groups * n) if "bias" in parts else None,
            "norm_weight": 1 + 0.3 * draw(k) if norm else None,
            "norm_bias": draw(k) if norm else None,
            "residual": draw(*lead, groups * n) if "residual" in parts else None,
            "gelu": "gelu" in parts,
            "groups": groups,
        }

    return Case(name, make)


FUSED_LINEAR = Operation(
    name="fused_linear",
    reference=reference,
    compute=compute,
    cases=(
        _case("norm-bias-gelu", (1, 9, 11), 96, 130, 1, "norm bias gelu"),
        _case("norm", (3, 5, 7), 36, 108, 1, "norm"),
        _case("bias-residual", (1, 8, 10), 144, 40, 1, "bias residual"),
        _case("groups", (2, 21), 48, 33, 5, "bias gelu residual"),
        _case("plain", (3, 7), 20, 12, 1, "bias"),
    ),
    benchmarks=(
        _case("qkv", (1, 256, 384), 96, 288, 1, "norm"),
        _case("ffn1", (1, 256, 384), 96, 384, 1, "norm bias gelu"),
        _case("ffn2", (1, 256, 384), 384, 96, 1, "bias"),
        _case("proj", (1, 256, 384), 96, 96, 1, "bias residual"),
        _case("tca", (24, 64), 256, 256, 5, "bias gelu"),
    ),
    tolerances={
        torch.float64: 1e-12,
        torch.float32: 1e-5,
        torch.bfloat16: 2e-2,
        torch.float16: 3e-3,
    },
    differentiable=("x", "weight", "bias", "norm_weight", "norm_bias", "residual"),
)
