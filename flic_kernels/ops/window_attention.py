"""Frequency-decomposition window attention (FDWA): contract and eager reference.

Source: Li et al., "Frequency-Aware Transformer for Learned Image Compression", ICLR 2024,
section 3.2.

Four branches see windows of four shapes, so that each attends to other spatial frequencies. With
window size s they are (height, width) = (2s, 2s), (s/2, s/2), (s/2, 2s) and (2s, s/2). Branch b
takes channels [b C/4, (b+1) C/4) of each of q, k and v and a quarter of the heads; a head's
channels are contiguous. In a shifted block the windows are moved by half a window and wrap around
the border, without a mask.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .operators import needs_grad, once_differentiable, operator
from .registry import Case, Operation

BRANCHES = 4


def branch_windows(window: int) -> tuple[tuple[int, int], ...]:
    """(height, width) of the four branches' windows for window size s >= 2, a power of two."""
    if window < 2 or window & (window - 1):
        raise ValueError(f"window must be a power of two of at least 2, not {window}")
    long, short = 2 * window, window // 2
    return (long, long), (short, short), (short, long), (long, short)


def branch_shifts(height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """How far a shifted block rolls (rows, columns) before windowing and back after it.

    Both are half the window, except where the window is 1 wide: there the published network rolls
    by one pixel before and by none after, and its checkpoints were trained so.
    """
    return (-(-height // 2), -(-width // 2)), (height // 2, width // 2)


def relative_position_index(height: int, width: int, device=None) -> Tensor:
    """int64 [N, N], N = height * width: the row of the bias table for query i (row) and key j."""
    y = torch.arange(height, device=device).repeat_interleave(width)
    x = torch.arange(width, device=device).repeat(height)
    dy = y[:, None] - y[None, :] + height - 1
    dx = x[:, None] - x[None, :] + width - 1
    return dy * (2 * width - 1) + dx


def window_attention(
    qkv: Tensor,
    tables: Sequence[Tensor],
    *,
    num_heads: int,
    window: int = 8,
    shifted: bool = False,
    impl: str | None = None,
) -> Tensor:
    """Attention of the four branches, from the qkv projection to the concatenated heads.

    Args:
        qkv: [B, H, W, 3C], float; q, k and v of C channels each, as the qkv Linear leaves them. H
            and W are multiples of 2 * window.
        tables: the four relative position bias tables, [(2 Wh - 1) (2 Ww - 1), num_heads / 4].
        num_heads: heads of all branches together, a multiple of 4; the head dimension is C /
            num_heads.
        window: s, a power of two of at least 2.
        shifted: whether this is the shifted ("SW") half of a pair of blocks.
        impl: "reference" or another implementation's name; None picks by device.

    Returns:
        [B, H, W, C] of qkv's dtype. Products accumulate and the softmax runs in float32 at least.

    Raises:
        ValueError: shapes that do not fit together.
    """
    _check(qkv, tables, num_heads, window)
    attend = WINDOW_ATTENTION.choose_for(impl, qkv, *tables)
    return attend(qkv, tables, num_heads=num_heads, window=window, shifted=shifted)


def _check(qkv: Tensor, tables: Sequence[Tensor], num_heads: int, window: int) -> None:
    if qkv.dim() != 4 or qkv.shape[3] % 3:
        raise ValueError(f"qkv must be [B, H, W, 3C], not {list(qkv.shape)}")
    check_geometry(*qkv.shape[1:3], qkv.shape[3] // 3, num_heads, window)
    if len(tables) != BRANCHES:
        raise ValueError(
            f"tables must be the four branches' bias tables, not {len(tables)} of them"
        )
    for table, (wh, ww) in zip(tables, branch_windows(window), strict=True):
        expected = [(2 * wh - 1) * (2 * ww - 1), num_heads // BRANCHES]
        if list(table.shape) != expected:
            raise ValueError(
                f"the bias table of the {wh}x{ww} windows must be {expected}, "
                f"not {list(table.shape)}"
            )


def check_geometry(height: int, width: int, channels: int, num_heads: int, window: int) -> None:
    """Raise ValueError where heads or windows do not fit the tensor."""
    branch_windows(window)
    if num_heads < BRANCHES or num_heads % BRANCHES or channels % num_heads:
        raise ValueError(
            f"num_heads must be a multiple of 4 that divides C = {channels}, not {num_heads}"
        )
    if height % (2 * window) or width % (2 * window):
        raise ValueError(
            f"height and width must be multiples of {2 * window}, not {height} x {width}"
        )


def reference(
    qkv: Tensor, tables: Sequence[Tensor], *, num_heads: int, window: int, shifted: bool
) -> Tensor:
    """The eager reference: plain differentiable PyTorch, any device and float dtype."""
    quarter = qkv.shape[3] // (3 * BRANCHES)
    split = qkv.unflatten(3, (3, BRANCHES, quarter))
    outputs = []
    for branch, (size, table) in enumerate(zip(branch_windows(window), tables, strict=True)):
        x = split[..., branch, :]
        before, after = branch_shifts(*size) if shifted else ((0, 0), (0, 0))
        if any(before):
            x = x.roll((-before[0], -before[1]), (1, 2))
        x = _attend(x, table, size, num_heads // BRANCHES)
        if any(after):
            x = x.roll(after, (1, 2))
        outputs.append(x)
    return torch.cat(outputs, dim=3)


def _attend(qkv: Tensor, table: Tensor, size: tuple[int, int], heads: int) -> Tensor:
    """One branch: qkv [B, H, W, 3, C/4] -> [B, H, W, C/4]."""
    (batch, height, width, _, channels), (wh, ww) = qkv.shape, size
    rows, columns, dim = height // wh, width // ww, channels // heads
    x = qkv.reshape(batch, rows, wh, columns, ww, 3, heads, dim)
    x = x.permute(5, 0, 1, 3, 6, 2, 4, 7).reshape(3, -1, heads, wh * ww, dim)
    q, k, v = x.unbind(0)
    compute = torch.promote_types(qkv.dtype, torch.float32)
    scores = (q * dim**-0.5) @ k.transpose(2, 3)
    bias = table[relative_position_index(wh, ww, table.device)].permute(2, 0, 1)
    weights = F.softmax(scores + bias, dim=3, dtype=compute).to(v.dtype)
    out = (weights @ v).reshape(batch, rows, columns, heads, wh, ww, dim)
    return out.permute(0, 1, 4, 2, 5, 3, 6).reshape(batch, height, width, channels)


def allocate(qkv, tables, num_heads, window, shifted, with_lse):
    """Results without values: out and, for the way back, lse in an order of the back end's own."""
    batch, height, width, channels = qkv.shape
    tokens = batch * height * width if with_lse else 0
    return (
        qkv.new_empty(batch, height, width, channels // 3),
        qkv.new_empty(num_heads, tokens, dtype=torch.float32),
    )


def allocate_backward(grad, qkv, tables, out, lse, num_heads, window, shifted):
    return qkv.new_empty(qkv.shape), [table.new_empty(table.shape) for table in tables]


_FORWARD = operator(
    "window_attention(Tensor qkv, Tensor[] tables, int num_heads, int window, bool shifted, "
    "bool with_lse, str impl) -> (Tensor, Tensor)",
    allocate,
)
_BACKWARD = operator(
    "window_attention_backward(Tensor grad, Tensor qkv, Tensor[] tables, Tensor out, Tensor lse, "
    "int num_heads, int window, bool shifted, str impl) -> (Tensor, Tensor[])",
    allocate_backward,
)


class _WindowAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, qkv, num_heads, window, shifted, impl, *tables):
        out, lse = _FORWARD(qkv, tables, num_heads, window, shifted, True, impl)
        ctx.save_for_backward(qkv, out, lse, *tables)
        ctx.settings = num_heads, window, shifted, impl
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        qkv, out, lse, *tables = ctx.saved_tensors
        dqkv, dtables = _BACKWARD(grad, qkv, tables, out, lse, *ctx.settings)
        return dqkv, None, None, None, None, *dtables


def compute(
    qkv: Tensor, tables: Sequence[Tensor], *, num_heads: int, window: int, shifted: bool, impl: str
) -> Tensor:
    """By the back end `impl`."""
    if needs_grad(qkv, *tables):
        return _WindowAttention.apply(qkv, num_heads, window, shifted, impl, *tables)
    return _FORWARD(qkv, list(tables), num_heads, window, shifted, False, impl)[0]


def _case(name: str, shape: tuple[int, int, int], dim: int, heads: int, window: int, shifted: bool):
    def make(generator: torch.Generator, dtype: torch.dtype) -> dict:
        batch, height, width = shape
        draw = lambda *size: torch.randn(*size, generator=generator, dtype=torch.float64)  # noqa: E731
        qkv = draw(batch, height, width, 3 * dim * heads)
        tables = [
            0.5 * draw((2 * wh - 1) * (2 * ww - 1), heads // BRANCHES)
            for wh, ww in branch_windows(window)
        ]
        return {
            "qkv": qkv.to(dtype),
            "tables": [table.to(dtype) for table in tables],
            "num_heads": heads,
            "window": window,
            "shifted": shifted,
        }

    return Case(name, make)


WINDOW_ATTENTION = Operation(
    name="window_attention",
    reference=reference,
    compute=compute,
    cases=(
        _case("plain-dim12", (1, 16, 32), 12, 4, 8, False),
        _case("shifted-dim12", (1, 32, 16), 12, 4, 8, True),
        _case("shifted-dim9", (2, 16, 16), 9, 4, 8, True),
        _case("plain-dim8", (1, 16, 16), 8, 8, 8, False),
        _case("hyper-plain", (1, 8, 12), 8, 8, 2, False),
        _case("hyper-shifted", (3, 4, 8), 8, 8, 2, True),
        _case("window4-dim24", (1, 8, 8), 24, 4, 4, False),
        _case("window4-shifted-dim64", (1, 8, 8), 64, 4, 4, True),
        _case("hyper-dim64", (1, 4, 8), 64, 4, 2, False),
        _case("window4-shifted-dim5", (1, 8, 16), 5, 4, 4, True),
    ),
    benchmarks=(
        _case("96", (1, 256, 384), 12, 8, 8, False),
        _case("144-shifted", (1, 128, 192), 9, 16, 8, True),
        _case("256", (1, 64, 96), 8, 32, 8, False),
        _case("hyper-shifted", (1, 16, 24), 8, 32, 2, True),
    ),
    tolerances={
        torch.float64: 1e-12,
        torch.float32: 1e-5,
        torch.bfloat16: 2e-2,
        torch.float16: 3e-3,
    },
    differentiable=("qkv", "tables"),
)
