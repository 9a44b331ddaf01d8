"""Time and peak memory of steps, measured inside the process that takes them."""

from __future__ import annotations

import contextlib
import ctypes
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import FlicError

_CLEAR = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")

RESETTABLE = (
    "largest resident set of the coding process (Python, libraries and weights included) during "
    "the step: VmHWM, reset before each step through /proc/self/clear_refs"
)
WHOLE_RUN = (
    "largest resident set of the coding process (Python, libraries and weights included) since it "
    "started, so never less than at the pictures before: VmHWM"
)
WITHOUT_PROC = (
    "largest resident set of the coding process (Python, libraries and weights included) since it "
    "started, so never less than at the pictures before: ru_maxrss, on some systems never less "
    "than that of the process which started it either"
)
ON_GPU = "torch.cuda.max_memory_allocated in the coding process, reset before each step"


@dataclass(frozen=True)
class Step:
    """Wall-clock seconds and peak memory in bytes."""

    seconds: float
    peak_bytes: int


class Meter:
    """Measures named steps; `steps` holds them. device: as torch names it."""

    def __init__(self, device: str = "cpu") -> None:
        self.device = device
        self.steps: dict[str, Step] = {}
        self._largest = 0

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        on_gpu = self.device.startswith("cuda")
        if on_gpu:
            import torch

            torch.cuda.reset_peak_memory_stats(self.device)
            resettable = True
        else:
            resettable = reset_peak()
        start = time.perf_counter()
        yield
        seconds = time.perf_counter() - start
        peak = torch.cuda.max_memory_allocated(self.device) if on_gpu else peak_bytes()
        if not resettable:
            # Linux notes VmHWM at some releases of memory only, so what it tells can fall.
            peak = self._largest = max(peak, self._largest)
        self.steps[name] = Step(seconds, peak)


def method(device: str = "cpu") -> str:
    """How this process measures peak memory, for the report."""
    if device.startswith("cuda"):
        return ON_GPU
    if reset_peak():
        return RESETTABLE
    return WHOLE_RUN if _STATUS.exists() else WITHOUT_PROC


def reset_peak() -> bool:
    """Forget the peak so far, and give freed memory back first; whether this system can."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)  # glibc
    try:
        _CLEAR.write_text("5")
    except OSError:
        return False
    return True


def peak_bytes() -> int:
    """The process's largest resident set since `reset_peak`, or since it started.

    Linux's ru_maxrss would be no less than that of the process which started this one: it outlives
    exec, VmHWM does not.
    """
    if _STATUS.exists():
        return resident_bytes("VmHWM")
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def resident_bytes(field: str) -> int:
    """VmRSS, what is resident now, or VmHWM, its peak, of this process. Linux."""
    for line in _STATUS.read_text().splitlines():
        if line.startswith(field + ":"):
            return 1024 * int(line.split()[1])
    raise FlicError(f"{_STATUS} has no {field}")
