"""How coarsely a picture is coded: the quantisation step, and what chooses it.

y is coded as round(y / step), so a larger step gives a smaller file (docs/format.md). Needs no
torch.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TypeVar

from ..errors import OptionError
from ..format.step import STEPS, check_step

QUALITIES = (0.0, 100.0)
"""The least and the greatest quality."""
ITERATIONS = (0, 5, 8, 12, 16, 24, 32, 48, 70, 100)
"""Of the efforts 0 to 9: how often an encoder improves the picture's latents by their gradient."""
_MOST_TRIES = 16


@dataclass(frozen=True)
class _Target:
    """A number of a file that a step is searched for; a difference is the ratio's logarithm, or dB.

    close: the difference that ends a search. near: the one that is no miss. slope: a guess of the
    difference by log(step). most: whether the goal must not be exceeded.
    """

    unit: str
    close: float
    near: float
    slope: float
    most: bool = False

    def within(self, excess: float, difference: float) -> bool:
        """Whether a number that is `excess` too high is right up to a difference."""
        return -difference <= excess <= (0 if self.most else difference)


_TARGETS = {
    "bpp": _Target("bits a pixel", 0.004, 0.01, -1.0),
    "size": _Target("bytes", 0.004, 0.01, -1.0, most=True),
    "psnr": _Target("dB", 0.01, 0.1, -5.0),
}

Outcome = TypeVar("Outcome")


def iterations_of(effort: int) -> int:
    """Of an effort; raises OptionError where there is no such."""
    if not isinstance(effort, numbers.Integral) or not 0 <= effort < len(ITERATIONS):
        raise OptionError(f"effort must be 0 to {len(ITERATIONS) - 1}, not {effort!r}")
    return ITERATIONS[effort]


def step_of(quality: float, ends: tuple[float, float]) -> float:
    """The step of a quality from 0 to 100, given those of 0 and 100: logarithms lie evenly."""
    share = quality / QUALITIES[1]
    return check_step(ends[0] ** (1 - share) * ends[1] ** share)


def parse_ends(text: str) -> tuple[float, float]:
    """The steps of qualities 0 and 100, "COARSE FINE", as a model's metadata has them.

    Raises ValueError on any other text.
    """
    coarse, fine = (check_step(float(part), ValueError) for part in text.split())
    if coarse <= fine:
        raise ValueError(f"quality 0 needs a greater step than quality 100, not {text!r}")
    return coarse, fine


@dataclass(frozen=True)
class Rate:
    """What a picture's step follows from: one of these, or nothing, which is a step of 1.

    quality: 0 to 100, for a model that maps it to steps. step: itself. bpp, size, psnr: bits a
    pixel of the file, its bytes at most, or dB of its 8-bit RGB picture, to search a step for.

    Raises OptionError on several, and on values that nothing can have.
    """

    quality: float | None = None
    step: float | None = None
    bpp: float | None = None
    size: int | None = None
    psnr: float | None = None

    def __post_init__(self) -> None:
        given = [field.name for field in fields(self) if getattr(self, field.name) is not None]
        if len(given) > 1:
            raise OptionError(f"{' and '.join(given)} each choose the rate: give one of them")
        for name in given:
            if not isinstance(getattr(self, name), numbers.Real):
                raise OptionError(f"{name} must be a number, not {getattr(self, name)!r}")
        if self.quality is not None and not QUALITIES[0] <= self.quality <= QUALITIES[1]:
            raise OptionError(f"a quality must lie between 0 and 100, not {self.quality:g}")
        if self.step is not None:
            object.__setattr__(self, "step", check_step(self.step))
        if self.target is not None and not 0 < self.goal < math.inf:
            raise OptionError(f"a target {self.target} must be a number above 0, not {self.goal:g}")

    @property
    def target(self) -> str | None:
        """Which of the file's numbers a step is to be searched for, if any: a field's name."""
        return next((name for name in _TARGETS if getattr(self, name) is not None), None)

    @property
    def goal(self) -> float:
        """The number that `target` is to have."""
        return float(getattr(self, self.target))

    def is_of(self, step: float, size: int, pixels: int, metadata: dict[str, str]) -> bool:
        """Whether a file of `size` bytes, with this step, is what this rate leads to.

        A target that no step reaches ends at the first or last. Nothing tells a file's PSNR: False.
        """
        if self.target is None:
            return step == self.fixed(metadata)
        if self.target == "psnr":
            return False
        excess = _excess(self.target, size if self.size else 8 * size / pixels, self.goal)
        target = _TARGETS[self.target]
        return target.within(excess, target.near) or step == STEPS[excess > 0]

    def missed(self, reached: float | None) -> str | None:
        """A line that says how far a search ended from its target; None where it is near enough."""
        if self.target is None or reached is None:
            return None
        excess, target = _excess(self.target, reached, self.goal), _TARGETS[self.target]
        if (target.most and excess <= 0) or target.within(excess, target.near):
            return None
        return f"no step gives {self.goal:g} {target.unit}; the nearest has {reached:.6g}"

    def fixed(self, metadata: dict[str, str]) -> float:
        """The step without a search, for a model with this metadata.

        Raises OptionError where a quality is asked for, and the model has none.
        """
        if self.step is not None:
            return self.step
        if self.quality is None:
            return 1.0
        ends = metadata.get("quality_steps")
        if ends is None:
            raise OptionError(
                "this model does not say what steps its qualities are: choose the rate by a step "
                "or a target in place of a quality"
            )
        try:
            return step_of(self.quality, parse_ends(ends))
        except ValueError as error:
            raise OptionError(f"this model's qualities make no sense: {error}") from error


def search(
    rate: Rate, measure: Callable[[float], tuple[float, Outcome]]
) -> tuple[float, float, Outcome]:
    """A step at which a file has what `rate` targets, found by false position over log(step).

    measure: what a step's file has of it (a number that falls as the step grows), and anything
    else, such as the file.

    Returns step, number and the other thing, of the trial that comes nearest; for "size", of the
    largest that is not greater than the goal, where there is one.
    """
    name, target, best = rate.target, _TARGETS[rate.target], None
    # ends of the interval in log(step), and by how much too high the number is there, if known
    low, high = (math.log(step) for step in STEPS)
    above = below = None
    at = 0.0
    for _ in range(_MOST_TRIES):
        step = check_step(min(max(math.exp(at), STEPS[0]), STEPS[1]))
        number, outcome = measure(step)
        excess = _excess(name, number, rate.goal)
        key = (target.most and excess > 0, abs(excess))
        if best is None or key < best[0]:
            best = key, (step, number, outcome)
        if target.within(excess, target.close):
            break
        if excess > 0:
            low, above = at, excess
        else:
            high, below = at, excess
        if high - low < 1e-6:
            break
        at = _next(target, (low, high), (above, below), at)
    return best[1]


def _excess(name: str, number: float, goal: float) -> float:
    """By how much a number is too high: dB, or the logarithm of the ratio."""
    if name == "psnr":
        return min(number, 1e3) - goal  # an identical picture has infinitely many dB
    return math.log(max(number, 1e-9) / goal)


def _next(
    target: _Target,
    interval: tuple[float, float],
    excesses: tuple[float | None, float | None],
    at: float,
) -> float:
    """Where to look next in an interval of log(step), whose ends' excesses may not be known yet."""
    (low, high), (above, below) = interval, excesses
    width = high - low
    aim = -target.close / 2 if target.most else 0.0
    if above is None or below is None:  # one side only: along the slope that is usual, then its end
        excess = below if above is None else above
        ahead = at + 1.5 * (aim - excess) / target.slope
        if not low < ahead < high:
            return low if above is None else high
        return ahead
    between = low + width * (above - aim) / (above - below)
    return min(max(between, low + 0.02 * width), high - 0.02 * width)
