"""Bjontegaard's average difference of rate between two curves at equal quality.

By the `bjontegaard` package (https://pypi.org/project/bjontegaard), on means over pictures: log10
of the rate is interpolated as a function of the quality in dB and integrated over the overlap, the
qualities that both curves reach. Nothing is extrapolated.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import bjontegaard

from .results import Curve

METHODS = ("pchip", "akima", "cubic")
"""Piecewise cubic Hermite (as in JVET's common test conditions), Akima, one cubic polynomial."""
METRICS = ("psnr", "ms_ssim_db")
_LEAST_POINTS = {"pchip": 2, "akima": 2, "cubic": 4}


@dataclass(frozen=True)
class Comparison:
    """bd_rate: percent of the reference's rate that `curve` takes more (negative: less).

    low, high: the qualities in dB that both reach; overlap: their range over the whole range of
    both. reason: why there is no bd_rate, or None.
    """

    curve: str
    reference: str
    metric: str
    method: str
    bd_rate: float | None = None
    low: float | None = None
    high: float | None = None
    overlap: float | None = None
    reason: str | None = None


def compare(curve: Curve, reference: Curve, metric: str, method: str = "pchip") -> Comparison:
    """The BD-rate of a curve against another in one of METRICS, or why there is none."""
    names = (curve.name, reference.name, metric, method)
    try:
        test, anchor = (_points(c, metric, method) for c in (curve, reference))
    except ValueError as error:
        return Comparison(*names, reason=str(error))
    low = max(anchor[1][0], test[1][0])
    high = min(anchor[1][-1], test[1][-1])
    if low >= high:
        return Comparison(*names, reason="the curves reach no quality in common")
    overlap = (high - low) / (max(anchor[1][-1], test[1][-1]) - min(anchor[1][0], test[1][0]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a small overlap: it is stated
        value = bjontegaard.bd_rate(*anchor, *test, method=method, require_matching_points=False)
    return Comparison(*names, float(value), low, high, overlap)


def compare_all(curves: list[Curve], method: str = "pchip") -> list[Comparison]:
    """Every model's curve against every anchor, and against the models' curves before it."""
    models = [curve for curve in curves if curve.kind == "model"]
    anchors = [curve for curve in curves if curve.kind == "anchor"]
    return [
        compare(curve, reference, metric, method)
        for i, curve in enumerate(models)
        for reference in anchors + models[:i]
        for metric in METRICS
    ]


def _points(curve: Curve, metric: str, method: str) -> tuple[list[float], list[float]]:
    """Rates and qualities by rising rate; ValueError says why they cannot be interpolated."""
    means = [point.mean for point in curve.points]
    pairs = sorted((mean["bpp"], mean[metric]) for mean in means if mean[metric] is not None)
    if len(pairs) < len(means):
        raise ValueError(f"{curve.name} lacks this metric on some picture")
    if len(pairs) < _LEAST_POINTS[method]:
        raise ValueError(
            f"{method} needs {_LEAST_POINTS[method]} points, {curve.name} has {len(pairs)}"
        )
    if not all(math.isfinite(value) for pair in pairs for value in pair):
        raise ValueError(f"{curve.name} has a point without loss")
    if any(a[0] >= b[0] or a[1] >= b[1] for a, b in zip(pairs, pairs[1:], strict=False)):
        raise ValueError(f"the quality of {curve.name} does not grow with its rate")
    rates, qualities = zip(*pairs, strict=True)
    return list(rates), list(qualities)
