"""A run's records: CSV files that a resumed run continues without a gap or a double row."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..output import write_atomic
from .distributed import World


class Mean:
    """Means of a step's terms since the last `take`, over all processes; kept across a resume."""

    def __init__(self, world: World):
        self._world, self._names, self._sums, self._count = world, (), None, 0

    def add(self, terms: Mapping[str, Tensor]) -> None:
        values = torch.stack([term.double() for term in terms.values()])
        self._names, self._count = tuple(terms), self._count + 1
        self._sums = values if self._sums is None else self._sums + values

    def take(self) -> dict[str, float]:
        """The means, and a fresh start; empty where nothing was added. All processes call it."""
        if not self._count:
            return {}
        means = self._world.mean(self._sums / self._count).tolist()
        self._sums, self._count = None, 0
        return dict(zip(self._names, means, strict=True))

    def state(self) -> dict:
        """For `restore`; plain values. All processes call it."""
        sums = [] if self._sums is None else self._world.mean(self._sums.clone()).tolist()
        return {"names": list(self._names), "sums": sums, "count": self._count}

    def restore(self, state: Mapping) -> None:
        self._names, self._count = tuple(state["names"]), state["count"]
        sums = torch.tensor(state["sums"], dtype=torch.float64, device=self._world.device)
        self._sums = sums if state["sums"] else None


class CsvLog:
    """Rows by step in a CSV file, floats to their last digit.

    Rows after `step` are dropped at the start: a killed run wrote them after its last checkpoint,
    and the resumed one writes them again.
    """

    def __init__(self, path: Path, columns: tuple[str, ...], step: int):
        self._path, self._columns = path, columns
        rows = []
        if path.exists():
            with path.open(newline="") as file:
                rows = [row for row in csv.DictReader(file) if _complete(row, columns, step)]
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomic(path, text.getvalue().encode())

    def write(self, row: Mapping[str, object]) -> None:
        """Append a row; columns that it lacks stay empty."""
        with self._path.open("a", newline="") as file:
            csv.DictWriter(file, self._columns, lineterminator="\n").writerow(row)


def _complete(row: Mapping[str, str], columns: tuple[str, ...], step: int) -> bool:
    """Whether a row was written whole, and not after `step`."""
    return set(row) == set(columns) and None not in row.values() and int(row["step"]) <= step
