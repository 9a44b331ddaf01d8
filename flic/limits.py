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


def check_memory(config: Config, shape: tuple[int, int]) -> None:
    """Raise DeviceError where T-CA's keys and values alone exceed the machine's memory.

    Args:
        shape: y's height and width.
    """
    total = total_memory()
    needed = coding_bytes(config, shape)
    if total is not None and needed > total:
        raise DeviceError(
            f"a picture of {16 * shape[1]}x{16 * shape[0]} takes at least {needed / 2**30:.1f} GiB "
            f"of memory with this model; the machine has {total / 2**30:.1f} GiB"
        )


def coding_bytes(config: Config, shape: tuple[int, int]) -> int:
    """Bytes of the keys and values that T-CA keeps of all slices but the last, a lower bound."""
    kept = 2 * config.depth * (config.slices - 1)
    return 4 * kept * config.slice_channels * config.ratio * shape[0] * shape[1]


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
