"""What is known of a coded picture's needs before anything of its size is allocated."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from ..config import Config
from ..errors import DeviceError, FormatError

if TYPE_CHECKING:
    import numpy as np

    from flic_kernels import rans

_PROC, _CGROUP = Path("/proc"), Path("/sys/fs/cgroup")
_RECLAIMABLE = re.compile(
    r"^(?:total_)?(?:active_file|inactive_file|slab_reclaimable) (\d+)$", re.M
)
_ESCAPE_BITS = 8  # of the shortest escape, docs/rans.md
_WORKER_BYTES = 600 << 20  # torch and a model, without what processes share
_TIMES = 2  # what coding took at its peak (base, tiny; up to 2 MP), in `transform_bytes`
_GRADIENT_TIMES = 60  # and with gradients (small; 0.4 MP)
_PICTURE_BYTES = 8  # a pixel: the file's samples, and those that are coded


def check_coding(config: Config, shape: tuple[int, int]) -> None:
    """Raise DeviceError where T-CA's keys and values alone exceed the memory that is available.

    Args:
        shape: the height and width of y, margins included.
    """
    _check(coding_bytes(config, shape), tuple(16 * side for side in shape))


def check_transform(config: Config, size: tuple[int, int]) -> None:
    """Raise DeviceError where g_a or g_s cannot do with the memory that is available.

    Args:
        size: height and width, in pixels, of what is transformed at once.
    """
    _check(transform_bytes(config, size), size)


def check_latents(config: Config, size: tuple[int, int]) -> None:
    """Raise DeviceError where y_hat of all tiles that a region needs exceeds the memory that is
    available.

    Args:
        size: height and width, in pixels, of what these tiles cover.
    """
    _check(4 * config.latent * (size[0] // 16) * (size[1] // 16), size, "a region takes")


def _check(needed: int, size: tuple[int, int], less: str = "tiles take") -> None:
    """`needed` is a lower bound, so only what cannot work is refused. less: what takes less."""
    allowed = allowance()
    if allowed is not None and needed > allowed:
        raise DeviceError(
            f"{size[1]}x{size[0]} pixels at once take at least {needed / 2**30:.1f} GiB of memory "
            f"with this model, and {allowed / 2**30:.1f} GiB are available: {less} less"
        )


def allowance() -> int | None:
    """Bytes of memory that coding may take; None where nothing says so."""
    known = [memory for memory in (total_memory(), available_memory()) if memory is not None]
    return min(known, default=None)


def coding_bytes(config: Config, shape: tuple[int, int]) -> int:
    """Bytes of the keys and values that T-CA keeps of all slices but the last, a lower bound."""
    kept = 2 * config.depth * (config.slices - 1)
    return 4 * kept * config.slice_channels * config.ratio * shape[0] * shape[1]


def transform_bytes(config: Config, size: tuple[int, int]) -> int:
    """Bytes of three tensors at half the resolution, the least that a block there works on."""
    return 4 * 3 * config.widths[0] * (size[0] // 2) * (size[1] // 2)


def worker_bytes(
    config: Config,
    size: tuple[int, int],
    side: int | None,
    *,
    process: bool = True,
    gradients: bool = False,
) -> int:
    """Bytes that coding a picture takes on a CPU, an estimate for sharing out work.

    8 bytes a pixel of the picture, and twice the `transform_bytes` of what is transformed at once,
    60 times with gradients.

    Args:
        size: the picture's height and width.
        side: of its tiles; None where it is coded whole.
        process: count 600 MiB for torch and weights, too.
    """
    at_once = size if side is None else tuple(min(side, each) for each in size)
    picture = _PICTURE_BYTES * size[0] * size[1]
    times = _GRADIENT_TIMES if gradients else _TIMES
    return process * _WORKER_BYTES + picture + times * transform_bytes(config, at_once)


class _Group(NamedTuple):
    """A control group for memory: bytes that it may use, uses, and could give up of these."""

    limit: int
    usage: int
    reclaimable: int


def total_memory() -> int | None:
    """Bytes of memory that this machine has, or may be used in the smallest of the control groups
    that this process is in; None where nothing says so."""
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None
    return min([total, *(group.limit for group in _groups())])


def available_memory() -> int | None:
    """Bytes of memory that could be had now; None where nothing says so.

    The least of what Linux expects to have without swapping (MemAvailable), and of each control
    group's limit less its usage, of which file caches and reclaimable kernel memory do not count;
    and to that all free swap, since pages that nothing works on can go there.
    """
    text = _text(_PROC / "meminfo") or ""
    meminfo = {k: int(v) << 10 for k, v in re.findall(r"^(\w+): +(\d+) kB$", text, re.M)}
    free = [group.limit - group.usage + group.reclaimable for group in _groups()]
    if "MemAvailable" in meminfo:
        free.append(meminfo["MemAvailable"])
    return max(min(free), 0) + meminfo.get("SwapFree", 0) if free else None


def _groups() -> Iterator[_Group]:
    """The control groups that limit this process's memory, of versions 1 and 2: its own and all
    around it. In a container some of their folders may not be there; those that are count."""
    for line in (_text(_PROC / "self" / "cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            root, limit_name, usage_name = _CGROUP, "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            root, limit_name, usage_name = (
                _CGROUP / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
            )  # fmt: skip
        else:
            continue
        inner = PurePosixPath(path.lstrip("/"))
        for folder in (root / each for each in (inner, *inner.parents)):
            limit = _text(folder / limit_name)
            if limit is not None and limit.isdecimal():  # not "max"
                usage = int(_text(folder / usage_name) or 0)
                yield _Group(int(limit), usage, _reclaimable(folder, usage))


def _reclaimable(folder: Path, usage: int) -> int:
    """Bytes; of version 1 the "total" lines count, which include the groups inside."""
    stat = _text(folder / "memory.stat") or ""
    if "total_" in stat:
        stat = "\n".join(line for line in stat.splitlines() if line.startswith("total_"))
    return min(usage, sum(map(int, _RECLAIMABLE.findall(stat))))


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


def check_length(
    payload_bytes: int, z_tables: rans.Tables, config: Config, shape: tuple[int, int]
) -> None:
    """Raise FormatError where a payload is too short for the symbols of a picture.

    A symbol of frequency f costs about log2(2^15 / f) bits. A state of integers can do a little
    better than that, never twice as well, hence the half.

    Args:
        shape: z's height and width.
    """
    from flic_kernels import rans

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
    import numpy as np

    from flic_kernels.rans.tables import TOTAL

    frequencies = tables.frequencies.astype(np.float64)
    cost = np.log2(TOTAL / frequencies)
    cost[tables.first[1:] - 1] += _ESCAPE_BITS
    return np.minimum.reduceat(cost, tables.first[:-1])
