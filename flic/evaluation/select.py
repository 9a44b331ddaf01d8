"""From what people name to the models of curves, and from a folder to its pictures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import checkpoint, formats, images, library
from ..errors import FlicError, PictureError

_CHECKPOINTS = (".safetensors", ".pth", ".pth.tar", ".pt")
_METRICS = {"mse": "", "ms-ssim": ", MS-SSIM"}


@dataclass(frozen=True)
class Model:
    """A model to evaluate: the curve that it is a point of, and what it is."""

    curve: str
    name: str
    path: Path
    fingerprint: str
    lmbda: str | None


@dataclass(frozen=True)
class PictureFile:
    """name: its path below the folder of the data. width, height: in pixels, turned upright."""

    name: str
    path: Path
    width: int
    height: int


def models(specs: Sequence[str], folder: Path | None = None) -> list[Model]:
    """The models named; every built-in one where none is.

    specs: each "[CURVE=]MODEL". MODEL is a name, a fingerprint, a checkpoint's path, or a folder,
    which stands for all checkpoints in it. CURVE names the line to which the point belongs; without
    it, models of one configuration trained for one metric make one.
    folder: further models (default: the user's model folder).
    Raises FlicError: unknown, unreadable, or one model twice on a curve.
    """
    if not specs:
        specs = [entry.name for entry in library.entries(folder) if entry.builtin]
    found = []
    for spec in specs:
        curve, name = _split(spec, folder)
        found += [_model(curve, each, folder) for each in _expand(name)]
    seen = set()
    for model in found:
        if (model.curve, model.fingerprint) in seen:
            raise FlicError(f"model {model.name} is on the curve {model.curve!r} twice")
        seen.add((model.curve, model.fingerprint))
    return found


def _split(spec: str, folder: Path | None) -> tuple[str | None, str]:
    """A curve's name, or None, and a model's; a file's name may have "=" in it."""
    if "=" not in spec or Path(spec).exists():
        return None, spec
    curve, name = spec.split("=", 1)
    if not curve or not name:
        raise FlicError(f"-m {spec}: want [CURVE=]MODEL")
    return curve, name


def _expand(name: str) -> list[str]:
    """A folder's checkpoints, or the name itself."""
    if not os.path.isdir(name):
        return [name]
    inside = sorted(p for p in Path(name).iterdir() if p.name.endswith(_CHECKPOINTS))
    if not inside:
        raise FlicError(f"{name}: no checkpoints ({' '.join(_CHECKPOINTS)}) in this folder")
    return [str(path) for path in inside]


def _model(curve: str | None, name: str, folder: Path | None) -> Model:
    path = library.locate(name, folder)
    # loaded here and now: a wrong checkpoint is found before any coding
    loaded = library.load_model(path)
    metadata = loaded.metadata
    if curve is None:
        trained_for = metadata.get("metric", "mse")
        curve = f"FLIC {loaded.config.name}{_METRICS.get(trained_for, f', {trained_for}')}"
    fingerprint = checkpoint.fingerprint(loaded)
    known = next((e.name for e in library.entries(folder) if e.path == path), None)
    return Model(curve, known or name, path, fingerprint, metadata.get("lambda"))


def pictures(folder: Path) -> list[PictureFile]:
    """Every picture in a folder and below, by name, hidden ones left out; or one picture's file.

    Each is read once: one that cannot be coded is found before any coding.
    Raises PictureError.
    """
    if folder.is_dir():
        paths = sorted(
            path
            for path in folder.rglob("*")
            if path.suffix.lower() in images.SUFFIXES
            and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        )
    else:
        folder, paths = folder.parent, [folder]
    if not paths:
        raise PictureError(f"{folder}: no {formats.COMMON} or other pictures in this folder")
    found = []
    for path in paths:
        picture = read(path)
        name = path.relative_to(folder).as_posix()
        found.append(PictureFile(name, path, picture.width, picture.height))
    return found


def read(path: Path) -> images.Picture:
    """A picture without metadata and without its alpha channel: only its colours are measured."""
    picture = images.read(path, strip=True)
    picture.alpha = None
    return picture
