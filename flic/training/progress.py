"""What a person sees of a run: a progress bar on a terminal, lines elsewhere. On stderr."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

_KEEP = 0.95  # of the shown means, each step


class Progress:
    """A run's display. `shown` false keeps it silent but for notes."""

    def __init__(self, *, shown: bool):
        self._console, self._shown = Console(stderr=True, highlight=False), shown
        self._bar, self._task = None, None
        self._means: dict[str, float] = {}

    @contextlib.contextmanager
    def of(self, total: int, step: int) -> Iterator[None]:
        """Show the bar meanwhile, at `step` of `total`."""
        columns = (
            TextColumn("{task.completed}/{task.total}"),
            BarColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        hidden = not (self._shown and self._console.is_terminal)
        with Bar(*columns, console=self._console, disable=hidden) as self._bar:
            self._task = self._bar.add_task("", total=total, completed=step)
            yield

    def note(self, text: str) -> None:
        """A line of its own."""
        self._console.print(text, markup=False, soft_wrap=True)

    def line(self, text: str) -> None:
        """A line that only the process which shows progress prints."""
        if self._shown:
            self.note(text)

    def step(self, step: int, values: Mapping[str, float]) -> None:
        """Move the bar; `values` are of `text`."""
        for name, value in values.items():
            before = self._means.get(name, value)
            self._means[name] = _KEEP * before + (1 - _KEEP) * value
        self._bar.update(self._task, completed=step, description=text(self._means))

    def validated(self, step: int, scores: Mapping[str, float | None]) -> None:
        """A line for a validation."""
        self.line(
            "step {0}  validation at {quant_step:.3g}: loss {loss:.3f}  {bpp_estimated:.3f} bpp "
            "estimated  files: {bpp:.3f} bpp  {psnr:.2f} dB".format(step, **scores)
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """A line in place of the bar, where there is no terminal."""
        if not self._console.is_terminal:
            self.line(f"step {step}  {text(values)}")


def text(values: Mapping[str, float]) -> str:
    """loss, bpp, mse, rate (pictures a second) and loading (share of time) as one line."""
    parts = []
    if "loss" in values:
        parts.append("loss {loss:.3f}  {bpp:.3f} bpp".format(**values))
        parts.append(f"{psnr(values['mse']):.2f} dB")
    if "rate" in values:
        parts.append("{rate:.1f} pictures/s  loading {loading:.1%}".format(**values))
    return "  ".join(parts)


def psnr(mse: float) -> float:
    """dB of a mean squared error of values in [0, 1]."""
    return -10 * math.log10(mse) if mse > 0 else math.inf
