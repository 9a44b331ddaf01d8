"""A run on disk: what resuming needs, and the models that come out of it."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import torch

from ..model import checkpoint
from ..output import write_atomic
from .recipe import Recipe
from .trainer import Trainer

LAST, MODEL, BEST = "last.pth.tar", "model.safetensors", "best.safetensors"
_LONGER = ("epochs", "steps")  # what may be another number when a run is resumed


def save(path: Path, trainer: Trainer, **more: object) -> None:
    """Write all that resuming needs, atomically; `more` holds plain values."""
    state = {
        "state_dict": trainer.model.state_dict(),
        "averaged": trainer.averaged.state_dict(),
        "optimizers": [each.state_dict() for each in trainer.optimizers],
        "aux_optimizer": trainer.aux_optimizer.state_dict(),
        "schedulers": [each.state_dict() for each in trainer.schedulers],
        "step": trainer.step,
        "skipped": trainer.skipped,
        "skipped_in_a_row": trainer.skipped_in_a_row,
        "recipe": trainer.recipe.to_dict(),
        **more,
    }
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomic(path, buffer.getvalue())


def read(path: str | Path) -> dict:
    """What `save` wrote; OSError, or ValueError where the file holds something else."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # torch names neither the file nor a class of its own
        raise ValueError(f"{path} is damaged: {type(error).__name__}") from error
    if not (isinstance(state, Mapping) and {"recipe", "averaged", "aux_optimizer"} <= state.keys()):
        raise ValueError(f"{path} is not the state of a training run")
    return state


def recipe_of(path: str | Path) -> dict | None:
    """The recipe of a run's last.pth.tar; None where the file is some other checkpoint."""
    if Path(path).suffix == ".safetensors":
        return None
    try:
        return read(path)["recipe"]
    except ValueError:
        return None


def restore(trainer: Trainer, state: Mapping, recipe: Recipe, path: str | Path) -> None:
    """Put a trainer of `recipe` where `state` (of `read`) was.

    The recipe may be longer, all else must be the same: ValueError names what differs.
    """
    ours = recipe.to_dict()
    defaults = {field.name: field.default for field in fields(Recipe)}
    theirs = defaults | state["recipe"]  # an older version's has fewer fields
    changed = [
        key for key in ours if theirs.get(key) != ours[key] and not _longer(key, ours, theirs)
    ]
    if changed:
        raise ValueError(
            f"{path} was trained with another {', '.join(changed)}: "
            + ", ".join(f"{key}={theirs.get(key)}" for key in changed)
        )
    trainer.model.load_state_dict(state["state_dict"])
    trainer.averaged.load_state_dict(state["averaged"])
    # an older version's run has one of each
    optimizers = state.get("optimizers") or [state["optimizer"]]
    schedulers = state.get("schedulers") or [state["scheduler"]]
    trainer.load_optimizers(optimizers)
    trainer.aux_optimizer.load_state_dict(state["aux_optimizer"])
    for scheduler, saved in zip(trainer.schedulers, schedulers, strict=True):
        scheduler.load_state_dict(saved)
    for name in ("step", "skipped", "skipped_in_a_row"):
        setattr(trainer, name, state[name])


def _longer(key: str, ours: Mapping, theirs: Mapping) -> bool:
    return key in _LONGER and None not in (ours[key], theirs.get(key))


def save_model(path: Path, trainer: Trainer, **more: object) -> None:
    """Write the averaged weights as safetensors, with where they come from in the header."""
    recipe = trainer.recipe
    origin = {"lambda": recipe.lmbda, "start": recipe.start, "epochs": recipe.epochs, **more}
    if recipe.variable:
        origin["quality_steps"] = recipe.quality_steps
    checkpoint.save(
        trainer.averaged,
        path,
        compact=True,
        metric=recipe.metric,
        steps=trainer.step,
        batch=recipe.batch,
        crop=recipe.crop,
        lr=recipe.lr,
        ema=recipe.ema,
        seed=recipe.seed,
        dtype=recipe.dtype,
        **{name: value for name, value in origin.items() if value is not None},
    )
