"""From what people name to the models of curves, and from a folder to its pictures."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..codec.rate import Rate
from ..errors import FlicError, OptionError, PictureError
from ..model import checkpoint, library, loading
from ..pictures import formats, images
from ..training.recipe import LAMBDAS

_CHECKPOINTS = (".safetensors", ".pth", ".pth.tar", ".pt")
_METRICS = {"mse": "", "ms-ssim": ", MS-SSIM"}
_MS_SSIM = re.compile(r"ms[-_ ]?ssim", re.IGNORECASE)
_NUMBER = re.compile(r"\d+\.\d+")
_MSE = re.compile(r"(?<![a-z])mse(?![a-z])", re.IGNORECASE)


@dataclass(frozen=True)
class Place:
    """A point of a model's own curve: a quantisation step, and the quality if one chose it."""

    step: float
    quality: float | None = None

    @property
    def name(self) -> str:
        if self.quality is None:
            return f"step {self.step:.6g}"
        return f"quality {self.quality:g} (step {self.step:.4g})"


@dataclass(frozen=True)
class Model:
    """A model to evaluate: the curve that it is a point of, and what it is.

    known: whether the curve was named, or follows from what the model was trained for. places: the
    points of a curve that is this model's alone; none where it is one point, coded at step 1.
    """

    curve: str
    name: str
    path: Path
    fingerprint: str
    lmbda: str | None
    known: bool = True
    places: tuple[Place, ...] = ()


@dataclass(frozen=True)
class PictureFile:
    """name: its path below the folder of the data. width, height: in pixels, turned upright."""

    name: str
    path: Path
    width: int
    height: int


def models(
    specs: Sequence[str],
    folder: Path | None = None,
    rates: Sequence[Rate] = (),
    singles: Sequence[str] = (),
) -> list[Model]:
    """The models named; every built-in one where none is.

    specs: each "[CURVE=]MODEL". MODEL is a name, a fingerprint, a checkpoint's path, or a folder,
    which stands for all checkpoints in it. CURVE names the line to which the point belongs; without
    it, models of one configuration trained for one metric make one.
    folder: further models (default: the user's model folder).
    rates: where given, each model is a curve of its own with a point for each of these, steps or
    qualities; it is called CURVE, or "FLIC" and the model's name. singles: specs of models that are
    one point each, whatever `rates` says; they come first.
    Raises FlicError: unknown, unreadable, one model twice on a curve, or several on one of which
    nothing says whether they were trained for one metric, or one of which has a curve of its own;
    a quality of a model that has none.
    """
    if not specs:
        specs = [entry.name for entry in library.entries(folder) if entry.builtin]
    found = []
    # singles first: a curve is compared with those before it
    for spec, at in [*((each, ()) for each in singles), *((each, rates) for each in specs)]:
        curve, name = _split(spec, folder)
        found += [_model(curve, each, folder, at) for each in _expand(name, folder)]
    seen = set()
    for model in found:
        if (model.curve, model.fingerprint) in seen:
            raise FlicError(f"model {model.name} is on the curve {model.curve!r} twice")
        seen.add((model.curve, model.fingerprint))
    for model in found:
        if sum(other.curve == model.curve for other in found) == 1:
            continue
        if model.places:
            raise FlicError(
                f"{model.name}: at several steps or qualities a model is a curve of its own, and "
                f"{model.curve!r} is that of another model, too: name the curves (-m CURVE=MODEL)"
            )
        if not model.known:
            raise FlicError(
                f"{model.name}: nothing says whether it was trained for MSE or for MS-SSIM, and a "
                "curve must not hold both: name its curve (-m CURVE=MODEL), or write the metric "
                "into the file (flic convert IN OUT.safetensors --metric mse|ms-ssim)"
            )
    return found


def _split(spec: str, folder: Path | None) -> tuple[str | None, str]:
    """A curve's name, or None, and a model's; a file's name may have "=" in it."""
    if "=" not in spec or Path(spec).exists():
        return None, spec
    curve, name = spec.split("=", 1)
    if not curve or not name:
        raise FlicError(f"-m {spec}: want [CURVE=]MODEL")
    return curve, name


def _expand(name: str, folder: Path | None) -> list[str]:
    """A folder's checkpoints, or the name itself; what a known model is called is no folder."""
    known = any(name in (entry.name, entry.fingerprint) for entry in library.entries(folder))
    if known or not os.path.isdir(name):
        return [name]
    inside = sorted(p for p in Path(name).iterdir() if p.name.endswith(_CHECKPOINTS))
    if not inside:
        raise FlicError(f"{name}: no checkpoints ({' '.join(_CHECKPOINTS)}) in this folder")
    return [str(path) for path in inside]


def _model(curve: str | None, name: str, folder: Path | None, rates: Sequence[Rate]) -> Model:
    path = library.locate(name, folder)
    # loaded here and now: a wrong checkpoint is found before any coding
    loaded = loading.load_model(path)
    metadata = loaded.metadata
    metric = trained_for(path, metadata)
    known = curve is not None or metric is not None
    own = next((e.name for e in library.entries(folder) if e.path == path), None) or name
    if curve is None and rates:
        curve = f"FLIC {own}"
    if curve is None:
        metric = metric or "mse"
        curve = f"FLIC {loaded.config.name}{_METRICS.get(metric, f', {metric}')}"
    fingerprint = checkpoint.fingerprint(loaded)
    places = tuple(_place(rate, own, metadata) for rate in rates)
    return Model(curve, own, path, fingerprint, metadata.get("lambda"), known, places)


def _place(rate: Rate, name: str, metadata: Mapping[str, str]) -> Place:
    """Where a step or quality is on the curve of a model with this name and metadata."""
    try:
        return Place(rate.fixed(metadata), rate.quality)
    except OptionError as error:
        raise OptionError(f"{name}: {error}") from None


def trained_for(path: Path, metadata: Mapping[str, str]) -> str | None:
    """The metric that a model was trained for; None where nothing tells.

    By its metadata, else by its file's or folder's name, else by a published lambda.
    """
    if "metric" in metadata:
        return metadata["metric"]
    for text in (path.name, path.absolute().parent.name):
        found = {m for m, word in (("ms-ssim", _MS_SSIM), ("mse", _MSE)) if word.search(text)}
        if found:
            return found.pop() if len(found) == 1 else None
    numbers = _NUMBER.findall(metadata.get("lambda", path.name))
    found = {
        metric
        for metric, lambdas in LAMBDAS.items()
        if any(float(number) in lambdas for number in numbers)
    }
    return found.pop() if len(found) == 1 else None


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
