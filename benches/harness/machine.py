"""What the machine can do, measured in the run that it is compared with; memory that a call takes.

The copy bandwidth bounds what moves bytes, a CPU's rate of fused multiply-adds what computes.
"""

from __future__ import annotations

import ctypes
import statistics
import time
from collections.abc import Callable

import torch

from benches.harness.clock import timer_of
from flic.evaluation import meter
from flic_kernels import native


def best_of(repetitions: int, *functions: Callable[[], object]) -> list[float]:
    """The shortest time of each function in seconds, taken in turns."""
    best = [float("inf")] * len(functions)
    for _ in range(repetitions):
        for i, function in enumerate(functions):
            start = time.perf_counter()
            function()
            best[i] = min(best[i], time.perf_counter() - start)
    return best


def fma_gflops(isa: str, threads: int, repetitions: int = 5) -> float:
    """The most float32 multiply-adds, counted twice, in 10^9 a second."""
    done = ctypes.c_double()
    call = native.library().flic_exact_fma_loop
    level = ("scalar", "avx2", "avx512").index(isa)

    def loop():
        native.check(
            call(level, threads, ctypes.c_int64(20_000_000), ctypes.byref(done)), "fma loop"
        )

    (seconds,) = best_of(repetitions, loop)
    return 2e-9 * done.value / seconds


def copy_rate(device: str, elements: int) -> float:
    """Bytes a second of a copy of float32 elements, read plus written: the median of ten."""
    clock = timer_of(device)
    source = torch.rand(elements, device=device)
    target = torch.empty_like(source)
    times = []
    for _ in range(12):
        start = clock()
        target.copy_(source)
        times.append(clock() - start)
    return 2 * source.numel() * source.element_size() / statistics.median(times[2:])


class PeakMemory:
    """Bytes that a call takes at most, on top of what was there: `start`, the call, `stop`.

    On a GPU allocated memory, on a CPU the process's resident memory as Linux counts it; None
    elsewhere.
    """

    def __init__(self, device: str):
        self.cuda = device == "cuda"
        self.known = self.cuda or meter.reset_peak()

    def start(self) -> None:
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
            self.before = torch.cuda.memory_allocated()
        elif self.known:
            meter.reset_peak()  # the peak becomes what is resident now
            self.before = meter.resident_bytes("VmRSS")

    def stop(self) -> int | None:
        if self.cuda:
            return torch.cuda.max_memory_allocated() - self.before
        return max(0, meter.peak_bytes() - self.before) if self.known else None
