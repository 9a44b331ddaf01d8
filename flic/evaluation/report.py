"""An evaluation as JSON, CSV and Markdown, and in CompressAI's JSON."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import re
from collections.abc import Sequence
from typing import Any

from ..codec.rate import ITERATIONS
from . import published
from .bd import Comparison
from .results import NUMBERS, Curve
from .run import Evaluation

_QUALITY = {"psnr": "PSNR", "ms_ssim_db": "MS-SSIM"}
# Field, heading, factor and digits of a table's columns; a column without values is left out.
_COLUMNS = (
    ("bpp", "bpp", 1, 4),
    ("psnr", "PSNR, dB", 1, 3),
    ("ms_ssim", "MS-SSIM", 1, 5),
    ("ms_ssim_db", "MS-SSIM, dB", 1, 3),
    ("encode_seconds", "encode, s", 1, 3),
    ("decode_seconds", "decode, s", 1, 3),
    ("forward_seconds", "forward, s", 1, 3),
    ("encode_peak_bytes", "encode, MB", 1e-6, 0),
    ("decode_peak_bytes", "decode, MB", 1e-6, 0),
    ("forward_peak_bytes", "forward, MB", 1e-6, 0),
)


def document(evaluation: Evaluation, command: str | None = None) -> dict:
    """Everything, as plain values; numbers that are not finite are None."""
    return _finite(
        {
            "command": command,
            "settings": dataclasses.asdict(evaluation.settings),
            "conventions": conventions(evaluation),
            "machine": evaluation.machine,
            "pictures": [
                {"name": p.name, "width": p.width, "height": p.height} for p in evaluation.pictures
            ],
            "curves": [
                {
                    "name": curve.name,
                    "kind": curve.kind,
                    "description": curve.description,
                    "points": [
                        {
                            "name": point.name,
                            **point.settings,
                            "mean": point.mean,
                            "pictures": [dataclasses.asdict(row) for row in point.rows],
                        }
                        for point in curve.points
                    ],
                }
                for curve in evaluation.curves
            ],
            "bd_rate": [dataclasses.asdict(comparison) for comparison in evaluation.comparisons],
            "published": {
                "source": published.LABEL,
                **{metric: list(points) for metric, points in published.CURVES.items()},
            },
        }
    )


def to_json(evaluation: Evaluation, command: str | None = None) -> str:
    return json.dumps(document(evaluation, command), indent=1) + "\n"


def to_csv(evaluation: Evaluation) -> str:
    """One line a curve, point and picture; the point's mean follows, its picture called "mean"."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("curve", "point", "picture", "width", "height", *NUMBERS))
    for curve in evaluation.curves:
        for point in curve.points:
            for row in point.rows:
                values = [getattr(row, name) for name in NUMBERS]
                writer.writerow(
                    (curve.name, point.name, row.picture, row.width, row.height, *values)
                )
            values = point.mean.values()
            writer.writerow((curve.name, point.name, "mean", None, None, *values))
    return out.getvalue()


def to_compressai(curve: Curve) -> str:
    """Means of a curve as CompressAI's eval_model prints them, for its plot tool.

    ms-ssim-rgb is the mean ratio; that tool turns it into dB itself.
    """
    names = {
        "psnr-rgb": "psnr",
        "ms-ssim-rgb": "ms_ssim",
        "bpp": "bpp",
        "encoding_time": "encode_seconds",
        "decoding_time": "decode_seconds",
    }
    means = [point.mean for point in curve.points]
    results = {
        theirs: [mean[ours] for mean in means]
        for theirs, ours in names.items()
        if all(mean[ours] is not None for mean in means)
    }
    document = {"name": curve.name, "description": curve.description, "results": results}
    return json.dumps(_finite(document), indent=2) + "\n"


def compressai_name(curve: str) -> str:
    """The file of `to_compressai`, by the curve's name: letters, digits, "-", "_" and "." of it;
    the rest becomes "-"."""
    name = re.sub(r"[^\w.-]+", "-", curve).strip("-.") or "curve"
    return f"compressai-{name}.json"


def to_markdown(evaluation: Evaluation, command: str | None = None) -> str:
    """Means, BD-rates, the models' rows and what the numbers mean."""
    parts = [tables(evaluation)]
    for curve in evaluation.curves:
        if curve.kind == "model":
            for point in curve.points:
                lines = [(row.picture, dataclasses.asdict(row)) for row in point.rows]
                lines.append(("mean", point.mean))
                parts.append(f"{curve.name}, {point.name}\n\n" + _table("picture", lines))
    parts.append("\n".join(f"- {line}" for line in conventions(evaluation)))
    if command is not None:
        parts.insert(0, f"`{command}`")
    return "\n\n".join(parts) + "\n"


def tables(evaluation: Evaluation) -> str:
    """Means and BD-rates."""
    parts = [means_table(evaluation)]
    if evaluation.comparisons:
        parts.append(bd_table(evaluation.comparisons))
    return "\n\n".join(parts)


def means_table(evaluation: Evaluation) -> str:
    """One line a point, means over pictures (memory: the largest)."""
    lines = [
        (f"{curve.name}, {point.name}", point.mean)
        for curve in evaluation.curves
        for point in curve.points
    ]
    return _table(f"mean of {len(evaluation.pictures)}", lines)


def bd_table(comparisons: Sequence[Comparison]) -> str:
    """One line a comparison: rate saved, over which qualities."""
    lines = ["| curve | against | metric | BD-rate | over | overlap |", "|" + "---|" * 6]
    for c in comparisons:
        if c.bd_rate is None:
            cells = ["none", c.reason, ""]
        else:
            cells = [
                f"{c.bd_rate:+.1f} %",
                f"{c.low:.2f} to {c.high:.2f} dB",
                f"{100 * c.overlap:.0f} %",
            ]
        cells = [c.curve, c.reference, _QUALITY[c.metric], *cells]
        lines.append(f"| {' | '.join(_cell(text) for text in cells)} |")
    return "\n".join(lines)


def conventions(evaluation: Evaluation) -> list[str]:
    """What the numbers mean, a sentence or two each."""
    settings = evaluation.settings
    if settings.real:
        rate = "bpp: 8 times the bytes of the whole file (header and checksums included) a pixel."
    else:
        rate = (
            "bpp of models: minus log2 of the likelihoods that one forward pass gives, summed, a "
            "pixel; no file is made. Of anchors: 8 times the bytes of the whole file."
        )
    if settings.pad is None:
        padding = "Padding: the codec's own."
    else:
        padding = (
            f"Padding: zeros all around to multiples of {settings.pad}, cropped after decoding; "
            "bits a pixel of the picture itself; its size before padding is in no file."
        )
    efforts = [
        f"Effort {effort}: {ITERATIONS[effort]} iterations a picture or tile."
        for effort in settings.efforts
        if effort
    ]
    lines = [
        rate,
        *efforts,
        "Pictures are coded as 8-bit RGB or gray, without alpha and metadata; decoded ones are "
        "rounded to 8 bits before PSNR and MS-SSIM are taken, over the three RGB channels.",
        "MS-SSIM in dB: -10 log10(1 - MS-SSIM). Means are over pictures, in dB of the dB values; "
        "of memory the largest is given.",
        padding,
        "Seconds: wall clock in the coding process, pixels to bytes and bytes to pixels, the model "
        "loaded and warm, one picture at a time, nothing of files, metrics or process start.",
        f"Memory of models: {evaluation.memory_method}.",
    ]
    if evaluation.comparisons:
        lines.append(
            f"BD-rate: bjontegaard package, method {settings.bd_method}, on the means: average "
            "difference of log rate over the qualities that both curves reach; overlap: these over "
            "all that either reaches."
        )
    for curve in evaluation.curves:
        if curve.description:
            lines.append(f"{curve.name}: {curve.description}.")
    small = sum(row.ms_ssim is None for row in evaluation.curves[0].points[0].rows)
    if small:
        lines.append(f"No mean of MS-SSIM: {small} pictures have a side under 161 pixels.")
    machine = evaluation.machine
    lines.append(
        f"flic {machine['flic']}, torch {machine['torch']}, Python {machine['python']}, "
        f"{machine['processor']}, {machine['threads']} threads, device {settings.device}, "
        f"transforms in {settings.dtype}."
    )
    return lines


def _table(first: str, lines: list[tuple[str, dict]]) -> str:
    columns = [c for c in _COLUMNS if any(values[c[0]] is not None for _, values in lines)]
    headings = [first, *(heading for _, heading, _, _ in columns)]
    rows = [f"| {' | '.join(headings)} |", "|---|" + "---:|" * len(columns)]
    for name, values in lines:
        cells = [name]
        for field, _, factor, digits in columns:
            value = values[field]
            cells.append("" if value is None else f"{value * factor:.{digits}f}")
        rows.append(f"| {' | '.join(_cell(text) for text in cells)} |")
    return "\n".join(rows)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
