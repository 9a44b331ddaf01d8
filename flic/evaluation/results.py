"""What an evaluation gives: a row for each picture, points of rows, curves of points."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, fields

PEAKS = ("encode_peak_bytes", "decode_peak_bytes", "forward_peak_bytes")


@dataclass(frozen=True)
class Row:
    """One picture at one point of a curve.

    bytes: of the whole file; where bits were only estimated, an eighth of these. bpp: bits a pixel.
    psnr: dB of 8-bit RGB, infinite where nothing was lost. ms_ssim: None where a side is too short
    for it; ms_ssim_db: -10 log10(1 - ms_ssim). Seconds and peak bytes of memory are of encoding and
    decoding, or of one forward pass where bits were estimated; what was not measured is None.
    """

    picture: str
    width: int
    height: int
    bytes: float
    bpp: float
    psnr: float
    ms_ssim: float | None
    ms_ssim_db: float | None
    encode_seconds: float | None = None
    decode_seconds: float | None = None
    forward_seconds: float | None = None
    encode_peak_bytes: int | None = None
    decode_peak_bytes: int | None = None
    forward_peak_bytes: int | None = None


NUMBERS = tuple(field.name for field in fields(Row))[3:]
"""The measured fields of a row."""


def summary(rows: Sequence[Row]) -> dict[str, float | None]:
    """Means over pictures of every number, of peaks the largest; None where a row has none."""
    result = {}
    for name in NUMBERS:
        values = [getattr(row, name) for row in rows]
        if any(value is None for value in values):
            result[name] = None
        else:
            result[name] = max(values) if name in PEAKS else statistics.fmean(values)
    return result


@dataclass(frozen=True)
class Point:
    """One model, at one step perhaps, or one quality of another codec, on all pictures.

    settings: what names it (a model's file, fingerprint and lambda, step and quality; a quality).
    """

    name: str
    settings: dict
    rows: tuple[Row, ...]

    @property
    def mean(self) -> dict[str, float | None]:
        return summary(self.rows)


@dataclass(frozen=True)
class Curve:
    """Points that one line joins. kind: "model" or "anchor"."""

    name: str
    kind: str
    description: str
    points: tuple[Point, ...]
