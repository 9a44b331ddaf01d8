"""Check every implementation of a problem, then time those that are right, in turns."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pytest
import torch

from benches.harness import rows
from benches.harness.clock import timer_of
from benches.harness.environment import environment
from benches.harness.machine import PeakMemory, copy_rate, fma_gflops
from benches.harness.problems import Problem, Spec, dtype_name
from benches.harness.rows import FAILED, OK, SKIPPED, WRONG, Row
from flic_kernels import NotAvailable, native

CACHE_BYTES = 2**28  # written between turns on a GPU, so that no turn finds its inputs in the cache
OUT_OF_TIME = "out of time"


@dataclass
class Run:
    """What the rows of one run share: the device, its rates, the time left, the file."""

    device: str
    json: Path | None
    compiled: bool  # whether torch.compile is among the implementations
    seconds: float  # for timing one problem in one mode
    rounds: tuple[int, int]  # at least, at most
    deadline: float  # of time.monotonic(): what has not begun by then is skipped
    small: bool = False  # only to see that it runs
    done: list[Row] = field(default_factory=list)

    @cached_property
    def shared(self) -> dict:
        found = environment(self.device)
        elements = 2**20 if self.small else 2**28 if self.device == "cuda" else 2**25
        found |= {"copy_bytes_per_second": copy_rate(self.device, elements)}
        if self.device == "cpu":
            repetitions, threads = 1 if self.small else 5, torch.get_num_threads()
            found["fma_gflops"] = fma_gflops(native.isa(), threads, repetitions)
        return found

    @property
    def out_of_time(self) -> bool:
        return time.monotonic() > self.deadline

    def add(self, found: list[Row]) -> None:
        for row in found:
            for name, value in self.shared.items():
                setattr(row, name, value)
            _rates(row)
        self.done += found
        if self.json:
            rows.write(found, self.json, "a")


def _rates(row: Row) -> None:
    if row.p50 is None:
        return
    if row.bytes_moved:
        row.copy_share = row.bytes_moved / row.p50 / row.copy_bytes_per_second
    if row.flops:
        row.gflops = row.flops / row.p50 / 1e9
        if row.fma_gflops and row.dtype == "float32":
            row.peak_share = row.gflops / row.fma_gflops


class Turns:
    """pedantic's `setup`: gives the functions in turn (A B C A B C ...), for `target`.

    `peaks` are the bytes that each took in the first round.
    """

    def __init__(self, functions: list[Callable[[], object]], device: str):
        self.functions, self.memory = functions, PeakMemory(device)
        self.peaks: list[int | None] = []
        self.turns = itertools.count()
        size = CACHE_BYTES if device == "cuda" else 0
        self.cache = torch.empty(size, dtype=torch.uint8, device=device)

    def __call__(self):
        """What happens here is not timed."""
        turn = next(self.turns)
        if 0 < turn <= len(self.functions):
            self.peaks.append(self.memory.stop())
        if turn < len(self.functions):
            self.memory.start()
        self.cache.zero_()
        return (self.functions[turn % len(self.functions)],), {}


def timed_in_turns(
    benchmark, functions: list[Callable], device: str, seconds: float, rounds: tuple[int, int]
) -> tuple[list[list[float]], list[int | None]]:
    """Times of each function, round by round, and the memory that each takes.

    As many rounds as fit into `seconds`, within `rounds` (at least two); a call of each before
    tells how long one takes.
    """
    clock, total = timer_of(device), 0.0
    for function in functions:
        start = clock()
        function()
        total += clock() - start
    least, most = rounds
    count = max(least, min(most, int(seconds / total)))
    turns = Turns(functions, device)
    benchmark.pedantic(
        lambda function: function(), setup=turns, rounds=count * len(functions), iterations=1
    )
    data = benchmark.stats.stats.data  # in the order of the turns
    times = [data[index :: len(functions)] for index in range(len(functions))]
    return times, turns.peaks


def checked(run: Run, row: Row, problem: Problem | None) -> Callable[[], object] | None:
    """What to time for a row; the row says so where it is wrong, or cannot be had."""
    if run.out_of_time:
        row.status, row.note = SKIPPED, OUT_OF_TIME
        return None
    try:
        call, errors = problem.check(row.impl, row.mode)
    except NotAvailable as reason:
        row.status, row.note = SKIPPED, str(reason)
    except Exception as reason:  # of any implementation: the others still count
        row.status, row.note = FAILED, f"{type(reason).__name__}: {reason}"
    else:
        judge(row, errors)
        return call if row.status == OK else None


def judge(row: Row, errors: dict[str, float]) -> None:
    """Set the row's error and, outside the tolerance or where not finite, that it is wrong."""
    name, worst = max(errors.items(), key=lambda item: item[1])
    row.error = worst if math.isfinite(worst) else None
    if not worst < row.tolerance:
        what = "the result" if name == "out" else f"the gradient of {name}"
        row.status, row.note = WRONG, f"{what} is {worst:.1e} off, allowed {row.tolerance:.0e}"


def compare(run: Run, benchmark, spec: Spec, problem: Problem | None, mode: str) -> None:
    """Rows for all implementations; the test fails where one is wrong or raises.

    `problem` is the spec's, None where there was no time to build it.
    """
    if not benchmark.enabled:
        pytest.skip("benchmarks are disabled")
    found, calls = [], []
    for name in spec.names:
        if name != "compile" or run.compiled:
            row = Row(spec.op, spec.case, name, mode, dtype_name(spec.dtype), OK)
            row.tolerance = spec.tolerances[mode]
            found.append(row)
            calls.append(checked(run, row, problem))
    right = [row for row in found if row.status == OK]
    if right:
        times, peaks = timed_in_turns(
            benchmark, [call for call in calls if call], run.device, run.seconds, run.rounds
        )
        base = times[0] if right[0].impl == "reference" else None
        for row, seconds, peak in zip(right, times, peaks, strict=True):
            row.timed(seconds, base)
            row.peak_bytes = peak
            problem.describe(row)
    run.add(found)
    bad = [row for row in found if row.status in (WRONG, FAILED)]
    if bad:
        pytest.fail("\n".join(f"{r.impl}: {r.status}, {r.note}" for r in bad), pytrace=False)
    if not right:
        pytest.skip(found[0].note)
