"""A run's folder: which of the files that lie there a run wrote."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

from ..errors import CheckpointError
from ..model import library
from ..output import check_ours
from . import state
from .logs import LOG, VALIDATION
from .recipe import Recipe

RECIPE, TRAINING_LOG, VALIDATION_LOG = "recipe.json", "log.csv", "validation.csv"


def check(folder: Path) -> None:
    """Raise ForeignFileError where a run would replace a file that no run wrote.

    A folder with a run's state is that run's, whatever else lies there; in another, what a run
    leaves that ended before its first checkpoint may stand under a run's names.
    """
    if (folder / state.LAST).exists():  # read, and refused where it is none, when it is resumed
        return
    for name in (RECIPE, TRAINING_LOG, VALIDATION_LOG, state.MODEL, state.BEST):
        check_ours(folder / name, wrote)


def wrote(path: Path) -> bool:
    """Whether a run wrote this file: by a recipe's fields, a log's heading, a model's metadata."""
    if path.name == RECIPE:
        return _is_recipe(path.read_bytes())
    if path.suffix == ".csv":
        columns = LOG if path.name == TRAINING_LOG else VALIDATION
        with path.open("rb") as file:
            return file.readline(1 << 12) == ",".join(columns).encode() + b"\n"
    try:
        metadata = library.read_header(path).get("__metadata__", {})
    except CheckpointError:
        return False
    return isinstance(metadata, dict) and metadata.get("format") == "flic" and "steps" in metadata


def _is_recipe(text: bytes) -> bool:
    try:
        found = json.loads(text)
    except ValueError:
        return False
    known = {field.name for field in fields(Recipe)}
    return isinstance(found, dict) and {"config", "lmbda", "crop"} <= found.keys() <= known
