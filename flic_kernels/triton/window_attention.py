"""Window attention of the four branches on a GPU: forward kernel, launchers.

Windows, shift with wrap-around, bias lookup and branch split are address arithmetic: no roll, no
partition copy and no score matrix reaches memory. Branches whose windows hold equally many pixels
share a launch, so there are three launches in each direction and, backward, the bias tables' sums.

A program works on groups of KEYS tokens: one window, or several where windows are small (scores
between different windows are masked).
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..ops.registry import NotAvailable
from ..ops.window_attention import allocate, allocate_backward
from .launch import Launch, dot_dtype, run
from .window_attention_backward import backward_launches
from .windows import FORWARD, bias_tile, log_width, padded, pixels, window_groups

LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def _forward_kernel(
    qkv, table0, table1, out, lse, H, W, windows, per_program, first_branch,
    LOG_WW0: tl.constexpr, LOG_WW1: tl.constexpr, LOG_N: tl.constexpr, GROUP: tl.constexpr,
    HEADS: tl.constexpr, KEYS: tl.constexpr, SHIFTED: tl.constexpr, D: tl.constexpr,
    DP: tl.constexpr, BLOCK: tl.constexpr, DOT: tl.constexpr, WITH_LSE: tl.constexpr,
):  # fmt: skip
    """BLOCK queries of one head against the KEYS tokens of their group, for a chunk's groups."""
    TILES: tl.constexpr = KEYS // BLOCK
    C: tl.constexpr = 4 * HEADS * D
    tile = tl.program_id(0) % TILES
    chunk = tl.program_id(0) // TILES
    head = tl.program_id(1) % HEADS
    second = tl.program_id(1) // HEADS
    log_ww = log_width(second, LOG_WW0, LOG_WW1)
    table = table0
    if second == 1:
        table = table1
    i = tile * BLOCK + tl.arange(0, BLOCK)
    j = tl.arange(0, BLOCK)
    d = tl.arange(0, DP)
    channel = ((first_branch + second) * HEADS + head) * D + d
    if TILES == 1:
        bias = bias_tile(table, i[:, None], j[None, :], log_ww, head, HEADS, LOG_N, GROUP)

    groups = tl.cdiv(windows, GROUP)
    for group in range(chunk * per_program, min((chunk + 1) * per_program, groups)):
        source, target, valid = pixels(i, group, log_ww, H, W, windows, LOG_N, GROUP, SHIFTED)
        inside = valid[:, None] & (d < D)[None, :]
        q = tl.load(qkv + source[:, None] * (3 * C) + channel[None, :], mask=inside, other=0.0)
        q = q.to(DOT)
        peak = tl.full([BLOCK], float("-inf"), dtype=tl.float32)
        total = tl.zeros([BLOCK], dtype=tl.float32)
        result = tl.zeros([BLOCK, DP], dtype=tl.float32)
        for start in range(0, KEYS, BLOCK):
            key = start + j
            source, at, key_valid = pixels(key, group, log_ww, H, W, windows, LOG_N, GROUP, SHIFTED)
            address = qkv + source[:, None] * (3 * C) + channel[None, :]
            key_inside = key_valid[:, None] & (d < D)[None, :]
            k = tl.load(address + C, mask=key_inside, other=0.0).to(DOT)
            v = tl.load(address + 2 * C, mask=key_inside, other=0.0).to(DOT)
            scores = tl.dot(q, tl.trans(k), input_precision="ieee") * (D**-0.5)
            if TILES == 1:
                scores += bias
            else:
                scores += bias_tile(
                    table, i[:, None], key[None, :], log_ww, head, HEADS, LOG_N, GROUP
                )
            scores *= LOG2E
            new_peak = tl.maximum(peak, tl.max(scores, axis=1))
            weights = tl.exp2(scores - new_peak[:, None])  # [BLOCK queries, BLOCK keys]
            shrink = tl.exp2(peak - new_peak)
            total = total * shrink + tl.sum(weights, axis=1)
            result = result * shrink[:, None]
            result += tl.dot(weights.to(DOT), v, input_precision="ieee")
            peak = new_peak
        if WITH_LSE:
            row = ((first_branch + second) * HEADS + head).to(tl.int64) * windows << LOG_N
            tl.store(lse + row + (group * KEYS + i), peak + tl.log2(total), mask=valid)
        result = result / total[:, None]
        address = out + target[:, None] * C + channel[None, :]
        tl.store(address, result.to(out.dtype.element_ty), mask=inside)


def forward_launches(
    qkv: Tensor, tables: list[Tensor], out: Tensor, lse: Tensor | None, num_heads: int,
    window: int, shifted: bool,
) -> list[Launch]:  # fmt: skip
    """`lse` [num_heads, B H W] float32, in window order, receives log2 of the softmax's sums."""
    _, height, width, channels = qkv.shape
    dim, padded_dim, launches = channels // (3 * num_heads), padded(qkv, num_heads), []
    for group in window_groups(qkv, num_heads, window, FORWARD):
        tiles = group.config.keys // group.config.block
        planes = group.constants["HEADS"] * len(group.branches)
        chunks, per_program = group.split(tiles * planes)
        arguments = {
            "qkv": qkv,
            "table0": tables[group.branches[0]],
            "table1": tables[group.branches[-1]],
            "out": out,
            "lse": lse,
            "H": height,
            "W": width,
            "windows": group.windows,
            "per_program": per_program,
            "first_branch": group.branches[0],
            **group.constants,
            "SHIFTED": shifted,
            "D": dim,
            "DP": padded_dim,
            "BLOCK": group.config.block,
            "DOT": dot_dtype(qkv.dtype),
            "WITH_LSE": lse is not None,
        }
        grid = (tiles * chunks, planes)
        wide = group.config.block == 64 or padded_dim > 16
        limit = 255 if qkv.dtype == torch.float32 and wide else None
        launches.append(
            Launch(_forward_kernel, grid, arguments, group.config.warps, max_registers=limit)
        )
    return launches


def forward(qkv, tables, num_heads, window, shifted, with_lse):
    dim = qkv.shape[3] // (3 * num_heads)
    if window > 8 or dim > 64:
        raise NotAvailable(
            "the Triton window attention takes windows up to 16x16 (window <= 8) and head "
            f"dimensions up to 64, not window {window} and head dimension {dim}"
        )
    qkv, tables = qkv.contiguous(), [table.contiguous() for table in tables]
    out, lse = allocate(qkv, tables, num_heads, window, shifted, with_lse)
    wanted = lse if with_lse else None
    run(forward_launches(qkv, tables, out, wanted, num_heads, window, shifted), qkv.device)
    return out, lse


def backward(grad, qkv, tables, out, lse, num_heads, window, shifted):
    grad, qkv, tables = grad.contiguous(), qkv.contiguous(), [t.contiguous() for t in tables]
    dqkv, dtables = allocate_backward(grad, qkv, tables, out, lse, num_heads, window, shifted)
    launches = backward_launches(
        grad, qkv, tables, out, lse, dqkv, dtables, num_heads, window, shifted
    )
    run(launches, qkv.device)
    return dqkv, dtables
