"""Measuring: every picture through every model and anchor."""

from __future__ import annotations

import dataclasses
import itertools
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .. import __version__
from ..errors import FlicError
from ..pictures import metrics
from . import bd, coders, select
from .coders import Anchor, ModelCoder, PillowCoder
from .process import CodingProcess
from .results import Curve, Point, Row
from .select import Model, PictureFile, Place


@dataclass(frozen=True)
class Settings:
    """How to measure.

    real: whole files; otherwise bits estimated from the model's likelihoods. pad: zeros all around
    to multiples of this (256 as the authors' evaluation), or None for the codec's own padding.
    bd_method: one of bd.METHODS. dtype: what g_a and g_s compute in, of config.DTYPES. efforts: as
    `flic.encode`'s effort; of several, each makes curves of its own.
    """

    real: bool = True
    pad: int | None = None
    device: str = "cpu"
    threads: int | None = None
    bd_method: str = "pchip"
    dtype: str = "float32"
    efforts: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Evaluation:
    """What was measured on what. memory_method: how peaks were measured. machine: versions."""

    settings: Settings
    pictures: tuple[PictureFile, ...]
    curves: tuple[Curve, ...]
    comparisons: tuple[bd.Comparison, ...]
    memory_method: str
    machine: dict


def steps(
    pictures: Sequence[PictureFile],
    models: Sequence[Model],
    anchors: Sequence[str],
    settings: Settings,
) -> int:
    """How often `evaluate` will call `advance`."""
    qualities = sum(len(coders.anchor(name).qualities) for name in anchors)
    points = sum(len(model.places) or 1 for model in models) * len(settings.efforts)
    return len(pictures) * (points + qualities)


def evaluate(
    pictures: Sequence[PictureFile],
    models: Sequence[Model],
    anchors: Sequence[str] = (),
    settings: Settings | None = None,
    advance: Callable[[str], None] = lambda name: None,
) -> Evaluation:
    """Measure models and anchors on pictures.

    pictures, models: by `select`. anchors: names in coders.ANCHORS. advance: called before each
    coding with what is coded.
    Raises FlicError: an anchor that Pillow lacks, a model that cannot code, a process that died.
    """
    settings = settings or Settings()
    chosen = [coders.anchor(name) for name in anchors]
    lines: dict[str, list[Point]] = {}
    about: dict[str, str] = {}
    memory_method = None
    for effort, model in itertools.product(settings.efforts, models):
        coder = ModelCoder(
            model.path, settings.device, settings.threads, settings.real, settings.pad,
            settings.dtype, effort,
        )  # fmt: skip
        with CodingProcess(coder) as process:
            memory_method = process.memory_method
            points = [
                _model_point(process, pictures, model, place, advance)
                for place in model.places or (None,)
            ]
        curve = f"{model.curve}, effort {effort}" if len(settings.efforts) > 1 else model.curve
        lines.setdefault(curve, []).extend(points)
        about[curve] = _description(model)
    curves = [Curve(name, "model", about[name], _by_rate(points)) for name, points in lines.items()]
    curves += [_anchor_curve(anchor, pictures, advance) for anchor in chosen]
    return Evaluation(
        settings,
        tuple(pictures),
        tuple(curves),
        tuple(bd.compare_all(curves, settings.bd_method)),
        memory_method or "",
        _machine(settings),
    )


def _model_point(
    process: CodingProcess,
    pictures: Sequence[PictureFile],
    model: Model,
    place: Place | None,
    advance: Callable[[str], None],
) -> Point:
    facts = {"path": str(model.path), "model": model.fingerprint, "lambda": model.lmbda}
    if place is None:
        return Point(model.name, facts, _rows(process, pictures, None, model.name, advance))
    rows = _rows(process, pictures, place.step, f"{model.name}, {place.name}", advance)
    return Point(place.name, facts | dataclasses.asdict(place), rows)


def _description(model: Model) -> str:
    """What a report says of a model's curve, beside its points' names."""
    if not model.places:
        return ""
    return f"one model, {model.name} ({model.fingerprint}), a point for each quantisation step"


def _anchor_curve(
    anchor: Anchor, pictures: Sequence[PictureFile], advance: Callable[[str], None]
) -> Curve:
    points = []
    with CodingProcess(PillowCoder(anchor)) as process:
        for quality in anchor.qualities:
            rows = _rows(process, pictures, quality, f"{anchor.name} {quality}", advance)
            points.append(Point(f"quality {quality}", {"quality": quality}, rows))
    return Curve(anchor.name, "anchor", anchor.description, tuple(points))


def _by_rate(points: list[Point]) -> tuple[Point, ...]:
    return tuple(sorted(points, key=lambda point: point.mean["bpp"]))


def _rows(
    process: CodingProcess,
    pictures: Sequence[PictureFile],
    setting: float | None,
    name: str,
    advance: Callable[[str], None],
) -> tuple[Row, ...]:
    rows = []
    for file in pictures:
        advance(f"{name}: {file.name}")
        picture = select.read(file.path)
        try:
            coded, taken = process.code(picture, setting)
        except FlicError as error:
            raise type(error)(f"{name}: {file.path}: {error}") from error
        similarity = metrics.ms_ssim(picture.pixels, coded.pixels)
        rows.append(
            Row(
                file.name,
                picture.width,
                picture.height,
                coded.bytes,
                metrics.bits_per_pixel(coded.bytes, picture.width, picture.height),
                metrics.psnr(picture.pixels, coded.pixels),
                similarity,
                None if similarity is None else metrics.in_db(similarity),
                **{f"{step}_seconds": value.seconds for step, value in taken.items()},
                **{f"{step}_peak_bytes": value.peak_bytes for step, value in taken.items()},
            )
        )
    return tuple(rows)


def _machine(settings: Settings) -> dict:
    """Versions, processor and threads, for a report's foot."""
    import torch

    return {
        "flic": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": settings.threads or torch.get_num_threads(),
        "processor": _processor(),
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            names = [
                line.split(":", 1)[1].strip() for line in file if line.startswith("model name")
            ]
    except OSError:
        names = []
    return f"{len(names)} x {names[0]}" if names else platform.processor() or platform.machine()
