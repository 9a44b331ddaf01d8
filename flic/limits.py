"""What is known of a coded picture's needs before anything of its size is allocated."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from flic_kernels import rans
from flic_kernels.rans_tables import TOTAL

from .config import Config
from .errors import DeviceError, FormatError

_CGROUP = Path("/sys/fs/cgroup/memory.max")
_ESCAPE_BITS = 8  # of the shortest escape, docs/rans.md


def check_coding(config: Config, shape: tuple[int, int]) -> None:
    """Raise DeviceError where T-CA's keys and values alone exceed the machine's memory.

    Args:
        shape: the height and width of y, margins included.
    """
    _check(coding_bytes(config, shape), tuple(16 * side for side in shape))


def check_transform(config: Config, size: tuple[int, int]) -> None:
    """Raise DeviceError where g_a or g_s cannot do with the machine's memory.

    Args:
        size: height and width, in pixels, of what is transformed at once.
    """
    _check(transform_bytes(config, size), size)


def _check(needed: int, size: tuple[int, int]) -> None:
    total = total_memory()
    if total is not None and needed > total:
        raise DeviceError(
            f"{size[1]}x{size[0]} pixels at once take at least {needed / 2**30:.1f} GiB of memory "
            f"with this model, and the machine has {total / 2**30:.1f} GiB: tiles take less"
        )


def coding_bytes(config: Config, shape: tuple[int, int]) -> int:
    """Bytes of the keys and values that T-CA keeps of all slices but the last, a lower bound."""
    kept = 2 * config.depth * (config.slices - 1)
    return 4 * kept * config.slice_channels * config.ratio * shape[0] * shape[1]


def transform_bytes(config: Config, size: tuple[int, int]) -> int:
    """Bytes of three tensors at half the resolution, the least that a block there works on."""
    return 4 * 3 * config.widths[0] * (size[0] // 2) * (size[1] // 2)


def total_memory() -> int | None:
    """Bytes of memory that this machine, or the control group, has; None where nothing says so."""
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None
    try:
        return min(total, int(_CGROUP.read_text()))
    except (OSError, ValueError):  # no control group, or its limit is "max"
        return total


def check_length(
    payload_bytes: int, z_tables: rans.Tables, config: Config, shape: tuple[int, int]
) -> None:
    """Raise FormatError where a payload is too short for the symbols of a picture.

    A symbol of frequency f costs about log2(2^15 / f) bits. A state of integers can do a little
    better than that, never twice as well, hence the half.

    Args:
        shape: z's height and width.
    """
    positions = shape[0] * shape[1]
    bits = positions * least_bits(z_tables).sum()
    bits += 16 * positions * config.latent * least_bits(rans.gaussian_tables()).min()
    if 8 * payload_bytes < bits / 2:
        raise FormatError(
            f"the stream is damaged: {payload_bytes} bytes cannot hold a picture of "
            f"{64 * shape[1]}x{64 * shape[0]}"
        )


def least_bits(tables: rans.Tables) -> np.ndarray:
    """Bits that the likeliest symbol of each table costs, float64 [tables]."""
    frequencies = tables.frequencies.astype(np.float64)
    cost = np.log2(TOTAL / frequencies)
    cost[tables.first[1:] - 1] += _ESCAPE_BITS
    return np.minimum.reduceat(cost, tables.first[:-1])
