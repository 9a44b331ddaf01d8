"""A run's folder: which of the files that lie there a run wrote."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from ..errors import CheckpointError, FlicError
from ..model import library
from ..output import check_ours
from . import state
from .logs import LOG, VALIDATION
from .recipe import Recipe

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None

RECIPE, TRAINING_LOG, VALIDATION_LOG = "recipe.json", "log.csv", "validation.csv"


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """The folder, made where there is none, is this process's alone as long as it lives; raises
    FlicError where another trains in it. Where a system has no such locks, nothing is held."""
    folder.mkdir(parents=True, exist_ok=True)
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FlicError(f"{folder}: another training runs in this folder") from None
        yield
    finally:
        os.close(descriptor)


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
