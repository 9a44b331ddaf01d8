"""A run's records, which a resumed run continues without a gap or a double row."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..output import write_atomic
from . import validation
from .distributed import World

LOG = ("step", "epoch", "loss", "bpp", "psnr", "ms_ssim", "lr", "skipped", "rate", "loading")
"""Columns of log.csv: means over the steps since the row before; rate in pictures a second, loading
the share of time in which the step waited for pictures."""
VALIDATION = ("step", "epoch", *validation.COLUMNS)
"""Columns of validation.csv."""


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
        sums = [] if self._sums is None else self._sums.tolist()
        return {"names": list(self._names), "count": self._count, "sums": self._world.gather(sums)}

    def restore(self, state: Mapping) -> None:
        """Each process takes what it had; where their number changed, the mean of all."""
        self._names, self._count = tuple(state["names"]), state["count"]
        self._sums = None
        if self._count:
            parts = torch.tensor(state["sums"], dtype=torch.float64, device=self._world.device)
            parts = parts.reshape(-1, len(self._names))
            same = len(parts) == self._world.size
            self._sums = parts[self._world.rank] if same else parts.mean(0)


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


def tensorboard_writer() -> type:
    """TensorBoard's SummaryWriter; ValueError where the package is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ValueError(
            "TensorBoard is not installed (pip install 'flic-kernels[tensorboard]')"
        ) from error
    return SummaryWriter


class Records:
    """log.csv, validation.csv and, with a `writer`, TensorBoard's events, in a run's folder.

    Rows after `step` are dropped from all of them.
    """

    def __init__(self, folder: Path, step: int, writer: type | None = None):
        self._board = writer and writer(folder / "tensorboard", purge_step=step + 1)
        self._logs = {
            "training": CsvLog(folder / "log.csv", LOG, step),
            "validation": CsvLog(folder / "validation.csv", VALIDATION, step),
        }

    def write(self, name: str, row: Mapping[str, object]) -> None:
        """Add a row to "training" or "validation"; TensorBoard's scalars are "name/column"."""
        self._logs[name].write(row)
        if self._board is None:
            return
        if row.get("quant_step", 1.0) != 1:
            name = f"{name} at {row['quant_step']:.3g}"
        for column, value in row.items():
            if column != "step" and value is not None:
                self._board.add_scalar(f"{name}/{column}", float(value), row["step"])
        self._board.flush()

    def close(self) -> None:
        if self._board is not None:
            self._board.close()
