"""What the parts of a call take."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from benches.harness.problems import eagerly


def using(impl: str) -> AbstractContextManager:
    """In it modules run as they are, or eagerly for "reference"."""
    return eagerly() if impl == "reference" else nullcontext()


class Stages:
    """Seconds of each part, by implementation (see `using`)."""

    def __init__(self, device: str):
        self.cuda = device == "cuda"
        self.taken: dict[tuple[str, str], list[float]] = defaultdict(list)

    @contextmanager
    def timed(self, impl: str, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        with using(impl):
            yield
        if self.cuda:
            torch.cuda.synchronize()
        self.taken[impl, stage].append(time.perf_counter() - start)

    def clear(self) -> None:
        self.taken.clear()

    def medians(self, impl: str) -> dict[str, float]:
        """By stage; the first call is one that was not timed."""
        return {
            stage: statistics.median(times[1:])
            for (name, stage), times in self.taken.items()
            if name == impl
        }
