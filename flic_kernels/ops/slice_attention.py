"""Attention among the slices of T-CA: contract and eager reference.

Source: Li et al., "Frequency-Aware Transformer for Learned Image Compression", ICLR 2024,
section 3.4 (transformer-based channel-wise autoregressive model).

A token is one channel of one head, seen at the positions of a window: channel c = heads * token +
head, and a token's vector is its L values. The tokens fall into slices of equal number, in order; a
token sees the tokens of its own and of earlier slices.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .operators import needs_grad, once_differentiable, operator
from .registry import Case, Operation


def slice_attention(
    q: Tensor, k: Tensor, v: Tensor, *, slices: int, heads: int, impl: str | None = None
) -> Tensor:
    """Block-causal attention over channel tokens, all slices at once.

    Args:
        q, k, v: [N, L, C], of one float dtype: N windows of L positions; channel = heads * token +
            head.
        slices: number of slices; C / heads tokens are split evenly among them.
        heads: number of heads.
        impl: "reference" or another implementation's name; None picks by device.

    Returns:
        [N, L, C] in the same layout and dtype. Scores are scaled by (C / heads) ** -0.5, the
        number of all tokens of a head. Products accumulate and the softmax runs in float32 at
        least.

    Raises:
        ValueError: shapes or dtypes that do not fit together.
    """
    if q.dim() != 3 or q.shape != k.shape or q.shape != v.shape:
        raise ValueError(
            "q, k and v must have one shape [N, L, C], not "
            f"{list(q.shape)}, {list(k.shape)}, {list(v.shape)}"
        )
    if q.dtype != k.dtype or q.dtype != v.dtype:
        raise ValueError(f"q, k and v must have one dtype, not {q.dtype}, {k.dtype}, {v.dtype}")
    if slices < 1 or heads < 1 or q.shape[2] % (slices * heads):
        raise ValueError(
            f"C = {q.shape[2]} must be a multiple of slices * heads = {slices * heads}"
        )
    attend_all = SLICE_ATTENTION.choose_for(impl, q, k, v)
    return attend_all(q, k, v, slices=slices, heads=heads)


def attend(q: Tensor, k: Tensor, v: Tensor, *, heads: int, scale: float) -> Tensor:
    """One slice's queries [N, L, heads * T] against all keys and values given [N, L, heads * U].

    A coder that works slice by slice uses this with cached keys and values; `scale` is the one
    of the whole, (all tokens of a head) ** -0.5. Returns [N, L, heads * T].
    """
    q, k, v = (x.unflatten(2, (-1, heads)).permute(0, 3, 2, 1) for x in (q, k, v))
    compute = torch.promote_types(q.dtype, torch.float32)
    scores = (q @ k.transpose(2, 3)) * scale
    weights = F.softmax(scores, dim=3, dtype=compute).to(v.dtype)
    return (weights @ v).permute(0, 3, 2, 1).flatten(2)


def reference(q: Tensor, k: Tensor, v: Tensor, *, slices: int, heads: int) -> Tensor:
    """The eager reference: plain differentiable PyTorch, any device and float dtype.

    Each slice attends in turn, so that masked keys are never visited.
    """
    channels = q.shape[2]
    scale = (channels // heads) ** -0.5
    size = channels // slices
    outputs = []
    for start in range(0, channels, size):
        stop = start + size
        outputs.append(
            attend(q[..., start:stop], k[..., :stop], v[..., :stop], heads=heads, scale=scale)
        )
    return torch.cat(outputs, dim=2)


def allocate(q, k, v, slices, heads, with_lse):
    """Results without values: out and, for the way back, lse in an order of the back end's own."""
    windows, _, channels = q.shape
    lse = q.new_empty(windows if with_lse else 0, channels, dtype=torch.float32)
    return q.new_empty(q.shape), lse


def allocate_backward(grad, q, k, v, out, lse, slices, heads):
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


_FORWARD = operator(
    "slice_attention(Tensor q, Tensor k, Tensor v, int slices, int heads, bool with_lse, str impl) "
    "-> (Tensor, Tensor)",
    allocate,
)
_BACKWARD = operator(
    "slice_attention_backward(Tensor grad, Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse, "
    "int slices, int heads, str impl) -> (Tensor, Tensor, Tensor)",
    allocate_backward,
)


class _SliceAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v, slices, heads, impl):
        out, lse = _FORWARD(q, k, v, slices, heads, True, impl)
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.settings = slices, heads, impl
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        return *_BACKWARD(grad, *ctx.saved_tensors, *ctx.settings), None, None, None


def compute(q: Tensor, k: Tensor, v: Tensor, *, slices: int, heads: int, impl: str) -> Tensor:
    """By the back end `impl`."""
    if needs_grad(q, k, v):
        return _SliceAttention.apply(q, k, v, slices, heads, impl)
    return _FORWARD(q, k, v, slices, heads, False, impl)[0]


def _case(name: str, windows: int, positions: int, slices: int, heads: int, tokens: int) -> Case:
    def make(generator: torch.Generator, dtype: torch.dtype) -> dict:
        shape = (windows, positions, slices * tokens * heads)
        draw = lambda: torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)  # noqa: E731
        return {"q": draw(), "k": draw(), "v": draw(), "slices": slices, "heads": heads}

    return Case(name, make)


SLICE_ATTENTION = Operation(
    name="slice_attention",
    reference=reference,
    compute=compute,
    cases=(
        _case("base", 1, 64, 5, 16, 16),
        _case("tiny", 3, 64, 4, 8, 3),
        _case("one-slice", 2, 64, 1, 16, 4),
        _case("small", 1, 16, 3, 2, 5),
    ),
    benchmarks=(_case("base", 24, 64, 5, 16, 16),),
    tolerances={
        torch.float64: 1e-12,
        torch.float32: 1e-5,
        torch.bfloat16: 2e-2,
        torch.float16: 3e-3,
    },
    differentiable=("q", "k", "v"),
)
