"""Rate-distortion curves as a picture: PSNR and MS-SSIM against bits a pixel.

The same numbers give the same bytes with the same matplotlib: no dates, fixed identifiers, and
nothing of the user's own style.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from . import published
from .run import Evaluation
from .select import PictureFile

SIZE = (10.0, 4.8)
"""Inches."""
DPI = 150

# Okabe and Ito's colours, which most kinds of colour blindness tell apart, without yellow and gray.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_MARKERS = ("o", "s", "D", "^", "v", "P", "X")
_PUBLISHED = "#777777"
_PANELS = {"psnr": "PSNR (dB)", "ms_ssim_db": "MS-SSIM (dB)"}
_STYLE = {"svg.hashsalt": "flic", "font.family": "DejaVu Sans", "font.size": 10}
_METADATA = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}


class _Line(NamedTuple):
    name: str
    points: list[tuple[float, float]]
    style: dict
    counts: bool  # whether it stretches the axis of rates


def draw(
    evaluation: Evaluation,
    size: tuple[float, float] = SIZE,
    dpi: float = DPI,
    *,
    with_published: bool = True,
) -> dict[str, bytes]:
    """The chart's files by their suffix, "png" and "svg".

    size: width and height in inches. The axis of rates ends where the models (and the published
    points) do: anchors go on beyond. A metric that some picture is too small for has no panel.
    """
    panels = {metric: _lines(evaluation, metric) for metric in _PANELS}
    panels = {metric: lines for metric, lines in panels.items() if any(x.counts for x in lines)}
    if with_published:
        for metric, lines in panels.items():
            lines.append(_published(metric))
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        figure.suptitle(title(evaluation))
        for i, (metric, lines) in enumerate(panels.items()):
            axes = figure.add_subplot(1, len(panels), i + 1)
            _panel(axes, lines, _PANELS[metric])
            if with_published:
                _note(axes, metric)
        if panels:
            handles, names = figure.axes[0].get_legend_handles_labels()
            columns = max(1, min(len(names), int(size[0] / 2)))
            figure.legend(handles, names, loc="outside lower center", ncols=columns, frameon=False)
        return {suffix: _save(figure, suffix, dpi) for suffix in _METADATA}


def title(evaluation: Evaluation) -> str:
    """What is drawn: of which data set, over how many pictures."""
    pictures = evaluation.pictures
    count = f"{len(pictures)} picture{'' if len(pictures) == 1 else 's'}"
    # "$" would begin a formula
    parts = ["Rate and distortion", *([data_name(pictures)] if pictures else []), count]
    return ", ".join(parts).replace("$", r"\$")


def data_name(pictures: Sequence[PictureFile]) -> str:
    """The name of the folder that the pictures, at least one, lie in; of one, its own."""
    if len(pictures) == 1:
        return pictures[0].path.name
    first = pictures[0]
    return first.path.absolute().parents[len(Path(first.name).parts) - 1].name


def _lines(evaluation: Evaluation, metric: str) -> list[_Line]:
    lines = []
    for i, curve in enumerate(evaluation.curves):
        means = [point.mean for point in curve.points]
        points = [(mean["bpp"], mean[metric]) for mean in means if mean[metric] is not None]
        points = [point for point in points if math.isfinite(point[1])]
        if not points:
            continue
        is_model = curve.kind == "model"
        style = {
            "color": _COLOURS[i % len(_COLOURS)],
            "marker": _MARKERS[i % len(_MARKERS)],
            "markersize": 6 if is_model else 4,
            "linewidth": 2 if is_model else 1.2,
            "linestyle": "-" if is_model else "--",
            "zorder": 3 if is_model else 2,
        }
        lines.append(_Line(curve.name, points, style, is_model))
    return lines


def _published(metric: str) -> _Line:
    style = {"color": _PUBLISHED, "marker": "o", "markersize": 5, "markerfacecolor": "white"}
    style |= {"linewidth": 1.2, "linestyle": ":", "zorder": 1}
    return _Line(published.LABEL, list(published.CURVES[metric]), style, True)


def _panel(axes: Axes, lines: list[_Line], label: str) -> None:
    for line in lines:
        axes.plot(*zip(*line.points, strict=True), label=line.name, **line.style)
    right = 1.08 * max(rate for line in lines if line.counts for rate, _ in line.points)
    shown = [value for line in lines for rate, value in line.points if rate <= right]
    margin = 0.05 * (max(shown) - min(shown)) or 1.0
    axes.set_xlim(0, right)
    axes.set_ylim(min(shown) - margin, max(shown) + margin)
    axes.set_xlabel("bits per pixel")
    axes.set_ylabel(label)
    axes.grid(color="#DDDDDD", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _note(axes: Axes, metric: str) -> None:
    """Says at the last published point what its model was trained for."""
    point = published.CURVES[metric][-1]
    style = {"color": _PUBLISHED, "fontsize": 8, "ha": "right", "va": "bottom"}
    axes.annotate(
        published.TRAINED_FOR[metric], point, (-8, 2), textcoords="offset points", **style
    )


def _save(figure: Figure, suffix: str, dpi: float) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format=suffix, dpi=dpi, metadata=_METADATA[suffix])
    return out.getvalue()
