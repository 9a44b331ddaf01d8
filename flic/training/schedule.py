"""Learning rates: a fall on plateaus, as published, and courses over a given number of steps."""

from __future__ import annotations

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from .recipe import Recipe

_FINAL = 0.01  # of the peak, at the cosine's end
_LEVEL = 0.25  # share of a run in which a linear course stays at the peak


def scheduler(optimizer: Optimizer, recipe: Recipe) -> ReduceLROnPlateau | LambdaLR:
    """The scheduler of a recipe: with epochs on plateaus, with steps its course after a warm-up.

    The first takes the loss of each validation (`step(loss)`), the second counts steps.
    """
    if recipe.epochs is not None:
        return ReduceLROnPlateau(optimizer, factor=recipe.factor, patience=recipe.patience)
    course = {"cosine": cosine, "linear": linear, "constant": constant}[recipe.schedule]
    return LambdaLR(optimizer, lambda step: course(step, recipe.warmup, recipe.steps))


def cosine(step: int, warmup: int, steps: int) -> float:
    """Share of the peak learning rate in step number `step` of `steps`."""
    if step < warmup:
        return (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, steps - warmup))
    return _FINAL + (1 - _FINAL) * 0.5 * (1 + math.cos(math.pi * done))


def linear(step: int, warmup: int, steps: int) -> float:
    """The same for a level first quarter and a fall to 0."""
    return constant(step, warmup, steps) * min(1.0, max(0.0, (1 - step / steps) / (1 - _LEVEL)))


def constant(step: int, warmup: int, steps: int) -> float:
    """The same for a rate that stays."""
    return min(1.0, (step + 1) / max(1, warmup))
