"""Attention among the slices of T-CA on a GPU.

A program takes one window, one slice of queries and a few heads. Heads are the innermost axis in
memory, so a program's heads share each transaction; the products are batched over them. Key slices
after the query's are never visited. Backward, one half of the programs gives dq, the other dk and
dv.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..ops.registry import NotAvailable
from ..ops.slice_attention import allocate, allocate_backward
from .launch import (
    Launch,
    architecture,
    dot_dtype,
    power_of_two,
    run,
)

LOG2E = tl.constexpr(1.4426950408889634)


def configuration(dtype: torch.dtype, backward: bool, arch: int) -> tuple[int, int]:
    """(heads, warps) of a program on compute capability `arch` (90: 9.0).

    Float32 operands take twice the registers, and backward has more of them: fewer heads then.
    """
    if backward and dtype == torch.float32:
        return (2, 2) if arch >= 100 else (2, 8)
    return 8, 8


@triton.jit
def _offsets(slice, first_head, L: tl.constexpr, HEADS: tl.constexpr,
             TOKENS: tl.constexpr, SLICES: tl.constexpr, HB: tl.constexpr, TP: tl.constexpr,
             LP: tl.constexpr):  # fmt: skip
    """Offsets into a window [L, C] of a slice's tokens [HB, TP, LP positions], and a mask."""
    C: tl.constexpr = SLICES * TOKENS * HEADS
    head = first_head + tl.arange(0, HB)
    token = tl.arange(0, TP)
    position = tl.arange(0, LP)
    channel = (slice * TOKENS + token)[None, :] * HEADS + head[:, None]
    mask = (head < HEADS)[:, None] & (token < TOKENS)[None, :]
    offset = channel[:, :, None] + position[None, None, :] * C
    return offset, mask[:, :, None] & (position < L)[None, None, :]


@triton.jit
def _rows(window, slice, first_head, HEADS: tl.constexpr, TOKENS: tl.constexpr,
          SLICES: tl.constexpr, HB: tl.constexpr, TP: tl.constexpr):  # fmt: skip
    """Offsets into [N, heads, tokens] of a slice's rows [HB, TP], and a mask."""
    head = first_head + tl.arange(0, HB)
    token = tl.arange(0, TP)
    row = (window.to(tl.int64) * HEADS + head[:, None]) * (SLICES * TOKENS)
    mask = (head < HEADS)[:, None] & (token < TOKENS)[None, :]
    return row + slice * TOKENS + token[None, :], mask


@triton.jit
def _forward_kernel(
    q, k, v, out, lse,
    L: tl.constexpr, HEADS: tl.constexpr, TOKENS: tl.constexpr, SLICES: tl.constexpr,
    HB: tl.constexpr, TP: tl.constexpr, LP: tl.constexpr, DOT: tl.constexpr,
    WITH_LSE: tl.constexpr,
):  # fmt: skip
    window = tl.program_id(0) // SLICES
    slice = SLICES - 1 - tl.program_id(0) % SLICES  # the longest first
    first = tl.program_id(1) * HB
    base = window.to(tl.int64) * (L * SLICES * TOKENS * HEADS)
    q += base
    k += base
    v += base
    out += base
    SCALE: tl.constexpr = (SLICES * TOKENS) ** -0.5 * LOG2E
    offset, inside = _offsets(slice, first, L, HEADS, TOKENS, SLICES, HB, TP, LP)
    queries = tl.load(q + offset, mask=inside, other=0.0).to(DOT)
    peak = tl.full([HB, TP], float("-inf"), dtype=tl.float32)
    total = tl.zeros([HB, TP], dtype=tl.float32)
    result = tl.zeros([HB, TP, LP], dtype=tl.float32)
    for other in range(0, slice + 1):
        at, present = _offsets(other, first, L, HEADS, TOKENS, SLICES, HB, TP, LP)
        keys = tl.load(k + at, mask=present, other=0.0).to(DOT)
        values = tl.load(v + at, mask=present, other=0.0).to(DOT)
        scores = tl.dot(queries, tl.permute(keys, (0, 2, 1)), input_precision="ieee") * SCALE
        if TP != TOKENS:
            scores = tl.where((tl.arange(0, TP) < TOKENS)[None, None, :], scores, float("-inf"))
        new_peak = tl.maximum(peak, tl.max(scores, axis=2))
        weights = tl.exp2(scores - new_peak[:, :, None])  # [HB, TP queries, TP keys]
        shrink = tl.exp2(peak - new_peak)
        total = total * shrink + tl.sum(weights, axis=2)
        result = result * shrink[:, :, None]
        result += tl.dot(weights.to(DOT), values, input_precision="ieee")
        peak = new_peak
    result = result / total[:, :, None]
    tl.store(out + offset, result.to(out.dtype.element_ty), mask=inside)
    if WITH_LSE:
        row, mask = _rows(window, slice, first, HEADS, TOKENS, SLICES, HB, TP)
        tl.store(lse + row, peak + tl.log2(total), mask=mask)


@triton.jit
def _delta_kernel(
    grad, out, delta,
    L: tl.constexpr, HEADS: tl.constexpr, TOKENS: tl.constexpr, SLICES: tl.constexpr,
    HB: tl.constexpr, TP: tl.constexpr, LP: tl.constexpr,
):  # fmt: skip
    """delta [N, heads, tokens]: the sum over positions of grad * out."""
    window = tl.program_id(0) // SLICES
    slice = tl.program_id(0) % SLICES
    first = tl.program_id(1) * HB
    base = window.to(tl.int64) * (L * SLICES * TOKENS * HEADS)
    offset, inside = _offsets(slice, first, L, HEADS, TOKENS, SLICES, HB, TP, LP)
    g = tl.load(grad + base + offset, mask=inside, other=0.0).to(tl.float32)
    o = tl.load(out + base + offset, mask=inside, other=0.0).to(tl.float32)
    row, mask = _rows(window, slice, first, HEADS, TOKENS, SLICES, HB, TP)
    tl.store(delta + row, tl.sum(g * o, axis=2), mask=mask)


@triton.jit
def _backward_kernel(
    grad, q, k, v, lse, delta, dq, dk, dv,
    L: tl.constexpr, HEADS: tl.constexpr, TOKENS: tl.constexpr, SLICES: tl.constexpr,
    HB: tl.constexpr, TP: tl.constexpr, LP: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    window = tl.program_id(0) // SLICES
    slice = tl.program_id(0) % SLICES
    first = tl.program_id(1) * HB
    base = window.to(tl.int64) * (L * SLICES * TOKENS * HEADS)
    grad += base
    q += base
    k += base
    v += base
    dq += base
    dk += base
    dv += base
    SCALE: tl.constexpr = (SLICES * TOKENS) ** -0.5
    offset, inside = _offsets(slice, first, L, HEADS, TOKENS, SLICES, HB, TP, LP)
    row, mask = _rows(window, slice, first, HEADS, TOKENS, SLICES, HB, TP)
    exists = (tl.arange(0, TP) < TOKENS)[None, None, :]

    if tl.program_id(2) == 0:
        queries = tl.load(q + offset, mask=inside, other=0.0).to(DOT)
        g = tl.load(grad + offset, mask=inside, other=0.0).to(DOT)
        sums = tl.load(lse + row, mask=mask, other=0.0)
        deltas = tl.load(delta + row, mask=mask, other=0.0)
        total = tl.zeros([HB, TP, LP], dtype=tl.float32)
        for other in range(0, slice + 1):
            at, present = _offsets(other, first, L, HEADS, TOKENS, SLICES, HB, TP, LP)
            keys = tl.load(k + at, mask=present, other=0.0).to(DOT)
            scores = tl.dot(queries, tl.permute(keys, (0, 2, 1)), input_precision="tf32x3")
            weights = tl.exp2(scores * (SCALE * LOG2E) - sums[:, :, None])  # [HB, queries, keys]
            if TP != TOKENS:
                weights = tl.where(exists, weights, 0.0)
            values = tl.load(v + at, mask=present, other=0.0).to(DOT)
            dscores = tl.dot(g, tl.permute(values, (0, 2, 1)), input_precision="tf32x3")
            dscores = weights * (dscores - deltas[:, :, None])
            total += tl.dot(dscores.to(DOT), keys, input_precision="tf32x3")
        tl.store(dq + offset, (total * SCALE).to(dq.dtype.element_ty), mask=inside)
    else:
        keys = tl.load(k + offset, mask=inside, other=0.0).to(DOT)
        values = tl.load(v + offset, mask=inside, other=0.0).to(DOT)
        dkeys = tl.zeros([HB, TP, LP], dtype=tl.float32)
        dvalues = tl.zeros([HB, TP, LP], dtype=tl.float32)
        for other in range(slice, SLICES):
            at, present = _offsets(other, first, L, HEADS, TOKENS, SLICES, HB, TP, LP)
            row, mask = _rows(window, other, first, HEADS, TOKENS, SLICES, HB, TP)
            queries = tl.load(q + at, mask=present, other=0.0).to(DOT)
            sums = tl.load(lse + row, mask=mask, other=0.0)
            scores = tl.dot(keys, tl.permute(queries, (0, 2, 1)), input_precision="tf32x3")
            weights = tl.exp2(scores * (SCALE * LOG2E) - sums[:, None, :])  # [HB, keys, queries]
            if TP != TOKENS:
                weights = tl.where(exists, weights, 0.0)
            g = tl.load(grad + at, mask=present, other=0.0).to(DOT)
            dvalues += tl.dot(weights.to(DOT), g, input_precision="tf32x3")
            deltas = tl.load(delta + row, mask=mask, other=0.0)
            dscores = tl.dot(values, tl.permute(g, (0, 2, 1)), input_precision="tf32x3")
            dscores = weights * (dscores - deltas[:, None, :])
            dkeys += tl.dot(dscores.to(DOT), queries, input_precision="tf32x3")
        tl.store(dk + offset, (dkeys * SCALE).to(dk.dtype.element_ty), mask=inside)
        tl.store(dv + offset, dvalues.to(dv.dtype.element_ty), mask=inside)


def _settings(q: Tensor, slices: int, heads: int, together: int) -> tuple[tuple[int, int], dict]:
    windows, positions, channels = q.shape
    together = min(together, power_of_two(heads))
    tokens = channels // (heads * slices)
    constants = {
        "L": positions,
        "HEADS": heads,
        "TOKENS": tokens,
        "SLICES": slices,
        "HB": together,
        "TP": power_of_two(tokens, 16),
        "LP": power_of_two(positions, 16),
    }
    return (windows * slices, -(-heads // together)), constants


def forward_launches(
    q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor | None, slices: int, heads: int,
    arch: int,
) -> list[Launch]:  # fmt: skip
    """`lse` [N, heads, tokens] float32 receives log2 of the softmax's sums."""
    together, warps = configuration(q.dtype, False, arch)
    grid, constants = _settings(q, slices, heads, together)
    arguments = {"q": q, "k": k, "v": v, "out": out, "lse": lse} | constants
    arguments |= {"DOT": dot_dtype(q.dtype), "WITH_LSE": lse is not None}
    return [Launch(_forward_kernel, grid, arguments, warps)]


def backward_launches(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor,
    gradients: tuple[Tensor, Tensor, Tensor], slices: int, heads: int, arch: int,
) -> list[Launch]:  # fmt: skip
    together, warps = configuration(q.dtype, True, arch)
    grid, constants = _settings(q, slices, heads, together)
    delta = lse.new_empty(lse.shape)
    first = {"grad": grad, "out": out, "delta": delta} | constants
    second = {"grad": grad, "q": q, "k": k, "v": v, "lse": lse, "delta": delta} | constants
    second |= dict(zip(("dq", "dk", "dv"), gradients, strict=True))
    second |= {"DOT": dot_dtype(q.dtype)}
    return [
        Launch(_delta_kernel, grid, first, warps),
        Launch(_backward_kernel, (*grid, 2), second, warps),
    ]


def forward(q, k, v, slices, heads, with_lse):
    tokens = q.shape[2] // (slices * heads)
    if q.shape[1] > 64 or tokens > 64:
        raise NotAvailable(
            "the Triton slice attention takes up to 64 positions and 64 tokens a slice, "
            f"not {q.shape[1]} and {tokens}"
        )
    q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
    out, lse = allocate(q, k, v, slices, heads, with_lse)
    wanted = lse if with_lse else None
    arch = architecture(q.device)
    run(forward_launches(q, k, v, out, wanted, slices, heads, arch), q.device)
    return out, lse


def backward(grad, q, k, v, out, lse, slices, heads):
    grad, q, k, v = grad.contiguous(), q.contiguous(), k.contiguous(), v.contiguous()
    gradients = allocate_backward(grad, q, k, v, out, lse, slices, heads)
    arch = architecture(q.device)
    launches = backward_launches(grad, q, k, v, out, lse, gradients, slices, heads, arch)
    run(launches, q.device)
    return gradients
