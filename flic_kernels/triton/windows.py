"""Window geometry as address arithmetic: which pixel a token sits on, which bias a pair has.

A token is numbered inside a group of GROUP windows of N = 2 ** LOG_N pixels each. Windows are (N /
width) x width with width a power of two. A launch serves up to two branches (`second` tells which)
whose windows hold equally many pixels: 4x16 and 16x4.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..ops.window_attention import BRANCHES, branch_windows
from .launch import power_of_two


@triton.jit
def log_width(second, LOG_WW0: tl.constexpr, LOG_WW1: tl.constexpr):
    """log2 of the window's width in this program's branch."""
    return tl.where(second == 0, LOG_WW0, LOG_WW1)


@triton.jit
def pixels(token, group, log_ww, H, W, windows, LOG_N: tl.constexpr, GROUP: tl.constexpr,
           SHIFTED: tl.constexpr):  # fmt: skip
    """For each token: the pixel [B H W] it is read from, the one it is written to, its validity.

    They differ only where a shifted window is 1 wide: the published network then rolls by one pixel
    before the attention and not back after it.
    """
    log_wh = LOG_N - log_ww
    rows = H >> log_wh
    columns = W >> log_ww
    window = group * GROUP + (token >> LOG_N)
    valid = window < windows
    inside = token & ((1 << LOG_N) - 1)
    batch = window // (rows * columns)
    window = window % (rows * columns)
    y = ((window // columns) << log_wh) + (inside >> log_ww)
    x = ((window % columns) << log_ww) + (inside & ((1 << log_ww) - 1))
    batch = batch.to(tl.int64) * H
    if SHIFTED:
        source_y = y + (((1 << log_wh) + 1) >> 1)
        source_x = x + (((1 << log_ww) + 1) >> 1)
        target_y = y + ((1 << log_wh) >> 1)
        target_x = x + ((1 << log_ww) >> 1)
        source_y = tl.where(source_y >= H, source_y - H, source_y)
        source_x = tl.where(source_x >= W, source_x - W, source_x)
        target_y = tl.where(target_y >= H, target_y - H, target_y)
        target_x = tl.where(target_x >= W, target_x - W, target_x)
        return (batch + source_y) * W + source_x, (batch + target_y) * W + target_x, valid
    pixel = (batch + y) * W + x
    return pixel, pixel, valid


@triton.jit
def bias_tile(table, query, key, log_ww, head, HEADS: tl.constexpr, LOG_N: tl.constexpr,
              GROUP: tl.constexpr):  # fmt: skip
    """Bias of `query` tokens against `key` tokens (broadcast together), -inf across windows.

    The row of the bias table is the difference of two numbers, one of the query and one of the key.
    """
    stride = (2 << log_ww) - 1
    wh = 1 << (LOG_N - log_ww)
    ww = 1 << log_ww
    inside = query & ((1 << LOG_N) - 1)
    queries = (inside >> log_ww) * stride + (inside & (ww - 1)) + (wh - 1) * stride + ww - 1
    inside = key & ((1 << LOG_N) - 1)
    keys = (inside >> log_ww) * stride + (inside & (ww - 1))
    address = table + (queries - keys) * HEADS + head
    if GROUP == 1:
        return tl.load(address).to(tl.float32)
    same = (query >> LOG_N) == (key >> LOG_N)
    bias = tl.load(address, mask=same, other=0.0).to(tl.float32)
    return tl.where(same, bias, float("-inf"))


@dataclass(frozen=True)
class Config:
    """Tokens of a group, rows (and columns) of a tile of scores, warps of a program.

    Warps split a tile's rows, 16 each, then its columns.
    """

    keys: int
    block: int
    warps: int


@dataclass(frozen=True)
class Configs:
    """The configurations of one direction, by pixels of a window.

    narrow: heads of up to 16 channels. wide: what differs for more of them in 16 bits. float32: the
    rows of a tile for more of them in float32, by channels padded to a power of two. Its products
    are on FMA units, and a thread holds whole rows of the operands: large tiles spill registers.
    """

    narrow: dict[int, Config]
    wide: dict[int, Config]
    float32: dict[int, int]

    def choose(self, pixels: int, channels: int, dtype: torch.dtype) -> Config:
        """For windows of `pixels` and heads of `channels`, padded."""
        if channels <= 16:
            return self.narrow[pixels]
        if dtype == torch.float32:
            block = self.float32[channels]
            return Config(max(pixels, block), block, 4)
        return self.wide.get(pixels, self.narrow[pixels])


FORWARD = Configs(
    narrow={
        256: Config(256, 64, 4),
        64: Config(64, 64, 4),
        16: Config(32, 32, 2),
        4: Config(32, 32, 2),
        1: Config(32, 32, 2),
    },
    wide={256: Config(256, 64, 8)},
    float32={32: 32, 64: 32},
)
BACKWARD = Configs(
    narrow={
        256: Config(256, 64, 4),
        64: Config(64, 32, 2),
        16: Config(32, 32, 2),
        4: Config(16, 16, 1),
        1: Config(16, 16, 1),
    },
    wide={256: Config(256, 32, 2), 1: Config(32, 32, 2)},
    float32={32: 32, 64: 16},
)
PROGRAMS_WANTED = 1056  # eight for each of 132 multiprocessors


@dataclass(frozen=True)
class Group:
    """Branches that share a launch, with the compile-time constants of their windows."""

    branches: tuple[int, ...]
    config: Config
    windows: int
    constants: dict[str, int]

    def split(self, programs: int) -> tuple[int, int]:
        """(chunks, groups of windows each), where `programs` programs work on each chunk."""
        groups = -(-self.windows // self.constants["GROUP"])
        chunks = min(groups, max(1, PROGRAMS_WANTED // programs))
        per_program = -(-groups // chunks)
        return -(-groups // per_program), per_program


def padded(qkv: Tensor, num_heads: int) -> int:
    """Channels of a head of qkv [B, H, W, 3C], padded: a product's operands have at least 16."""
    return power_of_two(qkv.shape[3] // (3 * num_heads), 16)


def window_groups(qkv: Tensor, num_heads: int, window: int, configs: Configs) -> list[Group]:
    """The launches' groups of branches for qkv [B, H, W, 3C]; `configs` is one of the above."""
    batch, height, width, _ = qkv.shape
    sizes = branch_windows(window)
    by_pixels: dict[int, list[int]] = {}
    for branch, (wh, ww) in enumerate(sizes):
        by_pixels.setdefault(wh * ww, []).append(branch)
    groups = []
    for count, branches in by_pixels.items():
        config = configs.choose(count, padded(qkv, num_heads), qkv.dtype)
        constants = {
            "LOG_WW0": sizes[branches[0]][1].bit_length() - 1,
            "LOG_WW1": sizes[branches[-1]][1].bit_length() - 1,
            "LOG_N": count.bit_length() - 1,
            "GROUP": config.keys // count,
            "HEADS": num_heads // BRANCHES,
            "KEYS": config.keys,
        }
        windows = batch * height * width // count
        groups.append(Group(tuple(branches), config, windows, constants))
    return groups
