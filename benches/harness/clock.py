"""pytest-benchmark's timer for each device: wall time on a CPU, device events on a GPU."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch


class Moment:
    """Now, on the GPU's time line: `later - earlier` waits for the later one, and is in seconds.

    Nothing waits between the two, so launches queue up as they do in use.
    """

    def __init__(self):
        self.event = torch.cuda.Event(enable_timing=True)
        self.event.record()

    def __sub__(self, earlier: Moment) -> float:
        self.event.synchronize()
        return earlier.event.elapsed_time(self.event) / 1e3


def timer_of(device: str) -> Callable:
    """A function whose results' differences are seconds."""
    return Moment if device == "cuda" else time.perf_counter
