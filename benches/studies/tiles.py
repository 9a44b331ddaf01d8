"""What tiles cost and whether their seams show, against the same pictures coded whole.

    python -m benches tiles --photos DIR [-m MODEL] [--tile 384] [--mirror 1]
        [--write FILE[:PART]] [--json FILE]

--mirror N makes each picture N times as wide and high, by mirroring it. For each picture: bytes and
PSNR of the whole and of the tiled file; PSNR within 8 pixels of the seams; the root mean square of
the steps of pixels over the seams, whole and tiled, and of the steps of the difference of the two
over the seams and everywhere. Steps are in 8-bit levels: rounding alone gives the difference 0.4.
Prints a table in Markdown.
"""

import math
import statistics
from collections.abc import Sequence

import numpy as np

from benches.harness import photos, study
from flic.codec.codec import Codec
from flic.model import loading
from flic.pictures import metrics
from flic.pictures.images import Picture

BAND = 8
HEAD = (
    "picture", "bytes", "tiled", "PSNR", "PSNR, tiled", "at seams", "at seams, tiled",
    "steps", "steps, tiled", "steps of the difference", "everywhere",
)  # fmt: skip


def main(arguments: Sequence[str]) -> None:
    parser = study.parser(__name__, __doc__, model="the built-in one")
    parser.add_argument("--tile", type=int, default=384, help="the tiles' side, pixels")
    parser.add_argument("--mirror", type=int, default=1, metavar="N")
    given = parser.parse_args(arguments)
    codec = Codec(loading.load_model(given.model))
    rows = {}
    for name, picture in photos.pictures(given.photos):
        sides = given.mirror * picture.width, given.mirror * picture.height
        if max(sides) > given.tile:
            larger = Picture.from_array(photos.mirrored(picture.pixels, *sides))
            rows[name] = measure(codec, larger, given.tile)
    rows["mean"] = [statistics.mean(column) for column in zip(*rows.values(), strict=True)]
    lines = [cells(name, row) for name, row in rows.items()]
    study.publish(given, HEAD, lines)


def measure(codec: Codec, picture: Picture, tile: int) -> list[float]:
    """The numbers of a row."""
    files = [codec.encode_picture(picture, tile=side) for side in ("none", tile)]
    original = picture.pixels
    whole, tiled = (codec.decode_picture(data).pixels for data in files)
    band = [seam_band(original.shape, tile)]
    difference = tiled.astype(np.int16) - whole
    row = [len(files[0]), 100 * (len(files[1]) / len(files[0]) - 1)]
    row += [metrics.psnr(original, pixels) for pixels in (whole, tiled)]
    row += [metrics.psnr(original[*band], pixels[*band]) for pixels in (whole, tiled)]
    row += [seam_step(pixels.astype(np.int16), tile) for pixels in (whole, tiled, difference)]
    return [*row, seam_step(difference, 1)]


def seam_band(shape: tuple[int, ...], tile: int) -> np.ndarray:
    """bool [H, W]: within BAND pixels of a seam."""
    near = []
    for side in shape[:2]:
        distance = (np.arange(side) + BAND) % tile
        near.append((distance < 2 * BAND) & (np.arange(side) >= BAND))
    return near[0][:, None] | near[1][None]


def seam_step(pixels: np.ndarray, tile: int) -> float:
    """Root mean square of the differences of pixels across seams; tile 1: of all neighbours."""
    down, across = (
        np.diff(pixels, axis=axis).take(range(tile - 1, pixels.shape[axis] - 1, tile), axis)
        for axis in (0, 1)
    )
    squares = [float((part.astype(np.float64) ** 2).sum()) for part in (down, across)]
    return math.sqrt(sum(squares) / (down.size + across.size))


def cells(name: str, row: list[float]) -> list[str]:
    size, growth, *psnrs = row[:6]
    first = [name, f"{size:.0f}", f"{growth:+.2f} %", *(f"{value:.3f}" for value in psnrs)]
    return [*first, *(f"{value:.2f}" for value in row[6:])]
