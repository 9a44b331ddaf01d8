"""The toy on a GPU: one elementwise kernel, forward and backward."""

from __future__ import annotations

import triton
import triton.language as tl

from ..ops.mix import allocate, allocate_backward
from .launch import Launch, run

BLOCK = 256


@triton.jit
def _kernel(x, y, out, count, amount, WITH_X: tl.constexpr, BLOCK: tl.constexpr):
    """out [count]: one block."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    result = amount * tl.load(y + i, mask=i < count, other=0.0).to(tl.float32)
    if WITH_X:
        result += tl.load(x + i, mask=i < count, other=0.0).to(tl.float32)
    tl.store(out + i, result.to(out.dtype.element_ty), mask=i < count)


def _launches(x, y, out, amount) -> list[Launch]:
    arguments = {"x": x, "y": y, "out": out, "count": y.numel(), "amount": amount}
    arguments |= {"WITH_X": x is not None, "BLOCK": BLOCK}
    return [Launch(_kernel, (triton.cdiv(y.numel(), BLOCK),), arguments, num_warps=4)]


def forward(x, y, amount):
    x, y = x.contiguous(), y.contiguous()
    out = allocate(x, y, amount)
    run(_launches(x, y, out, amount), x.device)
    return out


def backward(grad, amount):
    grad = grad.contiguous()
    out = allocate_backward(grad, amount)
    run(_launches(None, grad, out, amount), grad.device)
    return out
