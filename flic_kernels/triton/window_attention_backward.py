"""Backward kernels of window attention: scores are recomputed tile by tile, sums have a fixed
order.

A gradient of the bias tables is summed in two steps, without float atomics: each program adds the
score gradients of its own groups of windows in registers and writes one tile; `_table_kernel` then
adds the programs' tiles and all pairs of one displacement.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .launch import Launch, dot_dtype
from .windows import BACKWARD, bias_tile, log_width, padded, pixels, window_groups

LOG2E = tl.constexpr(1.4426950408889634)
TABLE_ENTRIES = 8


@triton.jit
def _load(base, pixel, valid, channel, stride: tl.constexpr, D: tl.constexpr, DP: tl.constexpr):
    """[tokens, DP] of one head; channels from D on and invalid tokens are zero."""
    mask = valid[:, None] & (tl.arange(0, DP) < D)[None, :]
    return tl.load(base + pixel[:, None] * stride + channel[None, :], mask=mask, other=0.0)


@triton.jit
def _store(base, value, pixel, valid, channel, stride: tl.constexpr, D: tl.constexpr,
           DP: tl.constexpr):  # fmt: skip
    mask = valid[:, None] & (tl.arange(0, DP) < D)[None, :]
    address = base + pixel[:, None] * stride + channel[None, :]
    tl.store(address, value.to(base.dtype.element_ty), mask=mask)


@triton.jit
def _weights(q, k, bias, lse, SCALE: tl.constexpr):
    """Softmax weights from recomputed scores; q and k may be given in either order."""
    scores = tl.dot(q, tl.trans(k), input_precision="ieee") * SCALE + bias
    return tl.exp2(scores * LOG2E - lse)


@triton.jit
def _whole_kernel(
    grad, qkv, table0, table1, out, lse, dqkv, dbias, H, W, windows, per_program, first_branch,
    LOG_WW0: tl.constexpr, LOG_WW1: tl.constexpr, LOG_N: tl.constexpr, GROUP: tl.constexpr,
    HEADS: tl.constexpr, KEYS: tl.constexpr, SHIFTED: tl.constexpr, D: tl.constexpr,
    DP: tl.constexpr, BLOCK: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """Windows of up to BLOCK pixels: one tile of scores gives dq, dk, dv and the bias gradient.

    dbias [chunk, branch and head, KEYS, KEYS] is summed over the groups of a chunk.
    """
    C: tl.constexpr = 4 * HEADS * D
    SCALE: tl.constexpr = D**-0.5
    chunk = tl.program_id(0)
    head = tl.program_id(1) % HEADS
    second = tl.program_id(1) // HEADS
    log_ww = log_width(second, LOG_WW0, LOG_WW1)
    table = table0
    if second == 1:
        table = table1
    i = tl.arange(0, BLOCK)
    plane = (first_branch + second) * HEADS + head
    channel = plane * D + tl.arange(0, DP)
    lse += plane.to(tl.int64) * windows << LOG_N
    summed = tl.zeros([BLOCK, BLOCK], dtype=tl.float32)
    groups = tl.cdiv(windows, GROUP)
    for group in range(chunk * per_program, min((chunk + 1) * per_program, groups)):
        source, target, valid = pixels(i, group, log_ww, H, W, windows, LOG_N, GROUP, SHIFTED)
        q = _load(qkv, source, valid, channel, 3 * C, D, DP).to(DOT)
        k = _load(qkv + C, source, valid, channel, 3 * C, D, DP).to(DOT)
        bias = bias_tile(table, i[:, None], i[None, :], log_ww, head, HEADS, LOG_N, GROUP)
        row = tl.load(lse + (group * KEYS + i), mask=valid, other=0.0)
        weights = _weights(q, k, bias, row[:, None], SCALE)  # [queries, keys]
        g = _load(grad, target, valid, channel, C, D, DP)
        o = _load(out, target, valid, channel, C, D, DP)
        delta = tl.sum(g.to(tl.float32) * o.to(tl.float32), axis=1)
        g = g.to(DOT)
        dv = tl.dot(tl.trans(weights.to(DOT)), g, input_precision="ieee")
        _store(dqkv + 2 * C, dv, source, valid, channel, 3 * C, D, DP)
        v = _load(qkv + 2 * C, source, valid, channel, 3 * C, D, DP).to(DOT)
        dscores = tl.dot(g, tl.trans(v), input_precision="ieee") - delta[:, None]
        dscores = weights * dscores
        summed += dscores
        dscores = dscores.to(DOT)
        dq = tl.dot(dscores, k, input_precision="ieee") * SCALE
        _store(dqkv, dq, source, valid, channel, 3 * C, D, DP)
        dk = tl.dot(tl.trans(dscores), q, input_precision="ieee") * SCALE
        _store(dqkv + C, dk, source, valid, channel, 3 * C, D, DP)

    base = (chunk * tl.num_programs(1) + tl.program_id(1)).to(tl.int64) * (KEYS * KEYS)
    tl.store(dbias + base + i[:, None] * KEYS + i[None, :], summed)


@triton.jit
def _tiled_kernel(
    grad, qkv, table0, table1, out, lse, dqkv, dbias, H, W, windows, per_program, first_branch,
    LOG_WW0: tl.constexpr, LOG_WW1: tl.constexpr, LOG_N: tl.constexpr, GROUP: tl.constexpr,
    HEADS: tl.constexpr, KEYS: tl.constexpr, SHIFTED: tl.constexpr, D: tl.constexpr,
    DP: tl.constexpr, BLOCK: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """Windows of several tiles. Along the first grid axis, for each head, stand programs of three
    kinds:

    - window and tile of queries: dq against all keys of the window;
    - window and tile of keys: dk and dv against all queries;
    - chunk of windows, tile of queries and tile of keys: the chunk's bias gradient dbias, as above.
    """
    TILES: tl.constexpr = KEYS // BLOCK
    C: tl.constexpr = 4 * HEADS * D
    SCALE: tl.constexpr = D**-0.5
    program = tl.program_id(0)
    head = tl.program_id(1) % HEADS
    second = tl.program_id(1) // HEADS
    log_ww = log_width(second, LOG_WW0, LOG_WW1)
    table = table0
    if second == 1:
        table = table1
    block = tl.arange(0, BLOCK)
    plane = (first_branch + second) * HEADS + head
    channel = plane * D + tl.arange(0, DP)
    lse += plane.to(tl.int64) * windows << LOG_N

    if program < windows * TILES:
        window = program // TILES
        i = program % TILES * BLOCK + block
        source, target, valid = pixels(i, window, log_ww, H, W, windows, LOG_N, 1, SHIFTED)
        q = _load(qkv, source, valid, channel, 3 * C, D, DP).to(DOT)
        g = _load(grad, target, valid, channel, C, D, DP)
        o = _load(out, target, valid, channel, C, D, DP)
        delta = tl.sum(g.to(tl.float32) * o.to(tl.float32), axis=1)
        g = g.to(DOT)
        row = tl.load(lse + (window * KEYS + i))
        dq = tl.zeros([BLOCK, DP], dtype=tl.float32)
        for start in range(0, KEYS, BLOCK):
            j = start + block
            other, at, present = pixels(j, window, log_ww, H, W, windows, LOG_N, 1, SHIFTED)
            k = _load(qkv + C, other, valid, channel, 3 * C, D, DP).to(DOT)
            v = _load(qkv + 2 * C, other, valid, channel, 3 * C, D, DP).to(DOT)
            bias = bias_tile(table, i[:, None], j[None, :], log_ww, head, HEADS, LOG_N, 1)
            weights = _weights(q, k, bias, row[:, None], SCALE)  # [queries, keys]
            dscores = tl.dot(g, tl.trans(v), input_precision="ieee") - delta[:, None]
            dq += tl.dot((weights * dscores).to(DOT), k, input_precision="ieee")
        _store(dqkv, dq * SCALE, source, valid, channel, 3 * C, D, DP)
    elif program < 2 * windows * TILES:
        window = program // TILES - windows
        j = program % TILES * BLOCK + block
        source, at, valid = pixels(j, window, log_ww, H, W, windows, LOG_N, 1, SHIFTED)
        k = _load(qkv + C, source, valid, channel, 3 * C, D, DP).to(DOT)
        v = _load(qkv + 2 * C, source, valid, channel, 3 * C, D, DP).to(DOT)
        dk = tl.zeros([BLOCK, DP], dtype=tl.float32)
        dv = tl.zeros([BLOCK, DP], dtype=tl.float32)
        for start in range(0, KEYS, BLOCK):
            i = start + block
            other, target, present = pixels(i, window, log_ww, H, W, windows, LOG_N, 1, SHIFTED)
            q = _load(qkv, other, valid, channel, 3 * C, D, DP).to(DOT)
            g = _load(grad, target, valid, channel, C, D, DP)
            o = _load(out, target, valid, channel, C, D, DP)
            delta = tl.sum(g.to(tl.float32) * o.to(tl.float32), axis=1)
            g = g.to(DOT)
            column = tl.load(lse + (window * KEYS + i))
            bias = bias_tile(table, i[None, :], j[:, None], log_ww, head, HEADS, LOG_N, 1)
            weights = _weights(k, q, bias, column[None, :], SCALE)  # [keys, queries]
            dv += tl.dot(weights.to(DOT), g, input_precision="ieee")
            dscores = tl.dot(v, tl.trans(g), input_precision="ieee") - delta[None, :]
            dk += tl.dot((weights * dscores).to(DOT), q, input_precision="ieee")
        _store(dqkv + C, dk * SCALE, source, valid, channel, 3 * C, D, DP)
        _store(dqkv + 2 * C, dv, source, valid, channel, 3 * C, D, DP)
    else:
        program -= 2 * windows * TILES
        i = program % TILES * BLOCK + block
        j = program // TILES % TILES * BLOCK + block
        chunk = program // (TILES * TILES)
        bias = bias_tile(table, i[:, None], j[None, :], log_ww, head, HEADS, LOG_N, 1)
        summed = tl.zeros([BLOCK, BLOCK], dtype=tl.float32)
        for window in range(chunk * per_program, min((chunk + 1) * per_program, windows)):
            source, target, valid = pixels(i, window, log_ww, H, W, windows, LOG_N, 1, SHIFTED)
            other, at, present = pixels(j, window, log_ww, H, W, windows, LOG_N, 1, SHIFTED)
            q = _load(qkv, source, valid, channel, 3 * C, D, DP).to(DOT)
            k = _load(qkv + C, other, valid, channel, 3 * C, D, DP).to(DOT)
            row = tl.load(lse + (window * KEYS + i))
            weights = _weights(q, k, bias, row[:, None], SCALE)  # [queries, keys]
            g = _load(grad, target, valid, channel, C, D, DP)
            o = _load(out, target, valid, channel, C, D, DP)
            delta = tl.sum(g.to(tl.float32) * o.to(tl.float32), axis=1)
            v = _load(qkv + 2 * C, other, valid, channel, 3 * C, D, DP).to(DOT)
            dscores = tl.dot(g.to(DOT), tl.trans(v), input_precision="ieee") - delta[:, None]
            summed += weights * dscores
        base = (chunk * tl.num_programs(1) + tl.program_id(1)).to(tl.int64) * (KEYS * KEYS)
        tl.store(dbias + base + i[:, None] * KEYS + j[None, :], summed)


@triton.jit
def _table_kernel(
    dbias, dtable0, dtable1, chunks,
    LOG_WW0: tl.constexpr, LOG_WW1: tl.constexpr, LOG_N: tl.constexpr, GROUP: tl.constexpr,
    HEADS: tl.constexpr, KEYS: tl.constexpr, ENTRIES: tl.constexpr,
):  # fmt: skip
    """ENTRIES rows of one head's bias table: the score gradients of all pairs so displaced."""
    head = tl.program_id(1) % HEADS
    second = tl.program_id(1) // HEADS
    log_ww = log_width(second, LOG_WW0, LOG_WW1)
    wh = 1 << (LOG_N - log_ww)
    ww = 1 << log_ww
    dtable = dtable0
    if second == 1:
        dtable = dtable1
    entry = tl.program_id(0) * ENTRIES + tl.arange(0, ENTRIES)
    dy = entry // (2 * ww - 1) - wh + 1
    dx = entry % (2 * ww - 1) - ww + 1
    i = tl.arange(0, KEYS)
    inside = i & ((1 << LOG_N) - 1)
    uy = (inside >> log_ww)[None, :] - dy[:, None]  # [ENTRIES, KEYS]
    ux = (inside & (ww - 1))[None, :] - dx[:, None]
    valid = (uy >= 0) & (uy < wh) & (ux >= 0) & (ux < ww)
    j = (i - inside)[None, :] + (uy << log_ww) + ux
    address = dbias + tl.program_id(1) * (KEYS * KEYS) + i[None, :] * KEYS + j
    plane = tl.num_programs(1).to(tl.int64) * (KEYS * KEYS)
    total = tl.zeros([ENTRIES, KEYS], dtype=tl.float32)
    for _ in range(0, chunks):
        total += tl.load(address, mask=valid, other=0.0)
        address += plane
    rows = (2 * wh - 1) * (2 * ww - 1)
    result = tl.sum(total, axis=1).to(dtable.dtype.element_ty)
    tl.store(dtable + entry * HEADS + head, result, mask=entry < rows)


def backward_launches(
    grad: Tensor, qkv: Tensor, tables: list[Tensor], out: Tensor, lse: Tensor, dqkv: Tensor,
    dtables: list[Tensor], num_heads: int, window: int, shifted: bool,
) -> list[Launch]:  # fmt: skip
    """Launches that fill `dqkv` and `dtables`; `lse` is what the forward pass left."""
    _, height, width, channels = qkv.shape
    dim, launches = channels // (3 * num_heads), []
    for group in window_groups(qkv, num_heads, window, BACKWARD):
        config = group.config
        tiles = config.keys // config.block
        planes = group.constants["HEADS"] * len(group.branches)
        chunks, per_program = group.split(tiles * tiles * planes)
        dbias = qkv.new_empty(chunks, planes, config.keys, config.keys, dtype=torch.float32)
        arguments = {
            "grad": grad,
            "qkv": qkv,
            "table0": tables[group.branches[0]],
            "table1": tables[group.branches[-1]],
            "out": out,
            "lse": lse,
            "dqkv": dqkv,
            "dbias": dbias,
            "H": height,
            "W": width,
            "windows": group.windows,
            "per_program": per_program,
            "first_branch": group.branches[0],
            **group.constants,
            "SHIFTED": shifted,
            "D": dim,
            "DP": padded(qkv, num_heads),
            "BLOCK": config.block,
            "DOT": dot_dtype(qkv.dtype),
        }
        if tiles == 1:
            launches.append(Launch(_whole_kernel, (chunks, planes), arguments, config.warps))
        else:
            programs = 2 * group.windows * tiles + chunks * tiles * tiles
            launches.append(Launch(_tiled_kernel, (programs, planes), arguments, config.warps))
        arguments = {
            "dbias": dbias,
            "dtable0": dtables[group.branches[0]],
            "dtable1": dtables[group.branches[-1]],
            "chunks": chunks,
            **group.constants,
            "ENTRIES": TABLE_ENTRIES,
        }
        # The two shapes of a group are each other's transpose: their tables have equally many rows.
        rows = dtables[group.branches[0]].shape[0]
        launches.append(Launch(_table_kernel, (-(-rows // TABLE_ENTRIES), planes), arguments, 4))
    return launches
