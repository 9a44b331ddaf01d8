"""The one schema of what a benchmark finds, and its file: a JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy

OK, WRONG, FAILED, SKIPPED = "ok", "wrong", "failed", "skipped"


@dataclass
class Row:
    """One implementation of one thing. Times are in seconds, and null unless `status` is "ok".

    Attributes:
        op, case, dtype, mode: what was done; `shape` is that of its (first) result.
        impl: "reference" (eager PyTorch), "compile" (torch.compile of it), "sdpa" (PyTorch's fused
            attention), the name of an implementation of the registry, "default" (the module as it
            is), "accelerated" (by flic_kernels.accelerate) or "exact" (the exact engine).
        status: "ok"; "wrong": outside the tolerance, never timed; "failed": it raised; "skipped":
            not available or out of time. `note` says more.
        error: norm(result - expected) / norm(expected) against the float64 reference, the largest
            over results and gradients.
        rounds, p20, p50, p80: calls timed, and quantiles of their times.
        speedup: median over rounds of the reference's time over this one's in the same round.
        peak_bytes: what a call takes on top of what was there (see machine.PeakMemory).
        bytes_moved, flops: what has to be done (see problems.Cost); flops is null where none count.
        copy_share: bytes_moved / p50 over the rate of a large copy, `copy_bytes_per_second`.
        gflops, peak_share: flops / p50 in 10^9, and its share of `fma_gflops`, float32 on CPUs.
        stages: medians of the parts' times, by name, where something has parts.
        values: what else a study found, by names of its own.
        device, versions, commit, machine, threads, isa: where and with what.
    """

    op: str
    case: str
    impl: str
    mode: str
    dtype: str
    status: str
    note: str | None = None
    shape: list[int] | None = None
    error: float | None = None
    tolerance: float | None = None
    rounds: int = 0
    p20: float | None = None
    p50: float | None = None
    p80: float | None = None
    speedup: float | None = None
    peak_bytes: int | None = None
    bytes_moved: int | None = None
    copy_share: float | None = None
    copy_bytes_per_second: float | None = None
    flops: int | None = None
    gflops: float | None = None
    peak_share: float | None = None
    fma_gflops: float | None = None
    stages: dict[str, float] | None = None
    values: dict | None = None
    device: str | None = None
    versions: dict | None = None
    commit: str | None = None
    machine: str | None = None
    threads: int | None = None
    isa: str | None = None

    @property
    def group(self) -> tuple[str, str, str, str]:
        """Rows of one group were timed in turns."""
        return self.op, self.case, self.dtype, self.mode

    def timed(self, times: Sequence[float], reference: Sequence[float] | None) -> None:
        """Fill in the times, the n-th of each sequence being of the same round."""
        self.rounds = len(times)
        self.p20, self.p50, self.p80 = (float(v) for v in numpy.quantile(times, (0.2, 0.5, 0.8)))
        if reference is not None:
            self.speedup = float(numpy.median(numpy.divide(reference, times)))


def write(rows: Iterable[Row], path: Path, mode: str = "w") -> None:
    """Rows to a file, a whole line at a time; mode "a" appends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open(mode) as file:
        file.writelines(json.dumps(asdict(row)) + "\n" for row in rows)


def read(path: Path) -> list[Row]:
    known = {f.name for f in fields(Row)}
    rows = []
    for line in path.read_text().splitlines():
        found = json.loads(line)
        if unknown := set(found) - known:
            raise ValueError(f"{path}: no row of a benchmark: {', '.join(sorted(unknown))}")
        rows.append(Row(**found))
    return rows


def of_table(op: str, head: Sequence[str], lines: Iterable[Sequence[str]], **where) -> list[Row]:
    """A study's table as rows: a line's first cell is the case, the others are values.

    where: what `environment.environment` gives.
    """
    rows = []
    for case, *cells in lines:
        row = Row(op, case, "default", "forward", "float32", OK, **where)
        row.values = dict(zip(head[1:], cells, strict=True))
        rows.append(row)
    return rows


def merge(first: list[Row], second: list[Row]) -> list[Row]:
    """Both runs' rows: a group whose torch.compile was timed in the second run comes from there.

    Else it comes from the first, with the second's row for torch.compile.
    """
    later: dict[tuple, list[Row]] = {}
    for row in second:
        later.setdefault(row.group, []).append(row)
    merged: dict[tuple, list[Row]] = {}
    for row in first:
        merged.setdefault(row.group, []).append(row)
    for group, rows in later.items():
        compiled = [row for row in rows if row.impl == "compile"]
        if group not in merged or any(row.status == OK for row in compiled):
            merged[group] = rows
        else:
            merged[group] += compiled
    return [row for rows in merged.values() for row in rows]
