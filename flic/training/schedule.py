"""Learning rates: a fall on plateaus, as published, and a cosine over a given number of steps."""

from __future__ import annotations

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from .recipe import Recipe

_FINAL = 0.01  # of the peak, at the cosine's end


def scheduler(optimizer: Optimizer, recipe: Recipe) -> ReduceLROnPlateau | LambdaLR:
    """The scheduler of a recipe: with epochs on plateaus, with steps a cosine with warm-up.

    The first takes the loss of each validation (`step(loss)`), the second counts steps.
    """
    if recipe.epochs is not None:
        return ReduceLROnPlateau(optimizer, factor=recipe.factor, patience=recipe.patience)
    return LambdaLR(optimizer, lambda step: cosine(step, recipe.warmup, recipe.steps))


def cosine(step: int, warmup: int, steps: int) -> float:
    """Share of the peak learning rate in step number `step` of `steps`."""
    if step < warmup:
        return (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, steps - warmup))
    return _FINAL + (1 - _FINAL) * 0.5 * (1 + math.cos(math.pi * done))
