"""Where the tiles of a large picture lie. Needs no torch.

All lengths are pixels of the padded picture; docs/format.md, "Tiles", is the specification.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import NamedTuple

from ..config import STRIDE
from ..errors import OptionError

AUTO_PIXELS = 1 << 22
"""The largest picture, in pixels, that is coded whole where nothing else is asked for."""
AUTO_TILE = 1024
"""The tiles' side where nothing else is asked for."""


def padded(size: tuple[int, int]) -> tuple[int, int]:
    """The size (height, width) that a picture is padded to: multiples of 128."""
    return tuple(-(-side // STRIDE) * STRIDE for side in size)


FINE, MIDDLE, COARSE = 32, 64, 128
"""A window's side at 1/2, 1/4 and 1/8 of the resolution, in pixels of the picture."""


class Box(NamedTuple):
    """A rectangle: rows from top to bottom, columns from left to right, both ends half open."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def width(self) -> int:
        return self.right - self.left

    def common(self, other: Box) -> Box:
        """What lies in both; where nothing does, its height or width is not positive."""
        return Box(
            max(self.top, other.top),
            max(self.left, other.left),
            min(self.bottom, other.bottom),
            min(self.right, other.right),
        )

    def around(self, other: Box) -> Box:
        """The smallest box that holds both."""
        return Box(
            min(self.top, other.top),
            min(self.left, other.left),
            max(self.bottom, other.bottom),
            max(self.right, other.right),
        )

    def grown(self, margin: int, bounds: Box) -> Box:
        """Larger by `margin` on each side, but not beyond `bounds`."""
        top, left, bottom, right = self
        return Box(top - margin, left - margin, bottom + margin, right + margin).common(bounds)

    def margins_to(self, outer: Box) -> Margins:
        """What lies between this box and one around it."""
        return Margins(
            self.top - outer.top,
            self.left - outer.left,
            outer.bottom - self.bottom,
            outer.right - self.right,
        )

    def slices(self, outer: Box, scale: int = 1) -> tuple[slice, slice]:
        """Rows and columns of this box in an array over `outer`, one element for scale x scale."""
        rows = slice((self.top - outer.top) // scale, (self.bottom - outer.top) // scale)
        columns = slice((self.left - outer.left) // scale, (self.right - outer.left) // scale)
        return rows, columns


class Margins(NamedTuple):
    """Pixels around a box, on each side."""

    top: int = 0
    left: int = 0
    bottom: int = 0
    right: int = 0


class Tile(NamedTuple):
    """core: what no other tile holds. coded: core and the margins that it is coded with.
    bounds: the padded picture."""

    core: Box
    coded: Box
    bounds: Box

    @classmethod
    def whole(cls, size: tuple[int, int]) -> Tile:
        """A picture of `size`, height and width before padding, as its only tile."""
        bounds = Box(0, 0, *padded(size))
        return cls(bounds, bounds, bounds)

    @property
    def margins(self) -> Margins:
        """Around the core, as it is coded."""
        return self.core.margins_to(self.coded)


class Grid:
    """The tiles of a picture, row by row; a single one where it is coded whole.

    size: height and width of the picture, before padding. side: the tiles', a multiple of 128, or
    None. A tile at the right or at the bottom ends with the padded picture, `bounds`.
    """

    def __init__(self, size: tuple[int, int], side: int | None) -> None:
        self.bounds = Tile.whole(size).bounds
        self._side = side or max(self.bounds)
        self.rows = -(-self.bounds.height // self._side)
        self.columns = -(-self.bounds.width // self._side)

    def __len__(self) -> int:
        return self.rows * self.columns

    def __iter__(self) -> Iterator[Tile]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, i: int) -> Tile:
        if not 0 <= i < len(self):
            raise IndexError(i)
        bounds = self.bounds
        top, left = (self._side * k for k in divmod(i, self.columns))
        bottom, right = top + self._side, left + self._side
        core = Box(top, left, min(bottom, bounds.bottom), min(right, bounds.right))
        return Tile(core, _coded(core, bounds), bounds)

    def meeting(self, box: Box) -> list[int]:
        """The numbers of the tiles whose cores have a pixel in common with a box, ascending."""
        part = self.bounds.common(box)
        if min(part.height, part.width) <= 0:
            return []
        rows = range(part.top // self._side, -(-part.bottom // self._side))
        columns = range(part.left // self._side, -(-part.right // self._side))
        return [row * self.columns + column for row in rows for column in columns]

    def name(self, i: int) -> str:
        """Tile i, for people."""
        row, column = divmod(i, self.columns)
        return f"tile {i} (row {row}, column {column})"


def _coded(core: Box, bounds: Box) -> Box:
    """A core and 128 pixels more in each direction in which it has neighbours: 64 on either side
    where both have one, none beyond the picture's border."""
    above, below = _shared(core.top > bounds.top, core.bottom < bounds.bottom)
    left, right = _shared(core.left > bounds.left, core.right < bounds.right)
    return Box(core.top - above, core.left - left, core.bottom + below, core.right + right)


def _shared(before: bool, after: bool) -> tuple[int, int]:
    """128 pixels, shared among the sides that have a neighbour."""
    if before and after:
        return STRIDE // 2, STRIDE // 2
    return STRIDE * before, STRIDE * after


def input_box(tile: Tile) -> Box:
    """The part of the padded picture that g_a takes for a tile."""
    return tile.core.grown(FINE, tile.bounds)


def latent_box(tile: Tile) -> Box:
    """The part of the padded picture whose y_hat g_s takes for a tile."""
    return tile.core.grown(COARSE, tile.bounds)


def streams_for(grid: Grid, region: Box) -> list[int]:
    """The streams that must be decoded to draw a region: of its tiles and of those around them."""
    boxes = [latent_box(grid[i]) for i in grid.meeting(region)]
    return sorted(set().union(*map(grid.meeting, boxes)))


def choose(size: tuple[int, int], tile: int | str = "auto") -> int | None:
    """The tiles' side for a picture, None where it is coded whole.

    size: height and width. tile: a side in pixels, a multiple of 128; "none": whole; "auto": whole
    up to AUTO_PIXELS. Raises OptionError for any other.
    """
    height, width = size
    if tile == "auto":
        tile = AUTO_TILE if height * width > AUTO_PIXELS else "none"
    if tile == "none":
        return None
    if not isinstance(tile, int) or tile < STRIDE or tile % STRIDE:
        raise OptionError(
            f"the tile size must be auto, none or a multiple of {STRIDE} pixels, not {tile}"
        )
    return tile if max(size) > tile else None


def check_crop(crop: tuple[int, int, int, int], size: tuple[int, int]) -> Box:
    """The box of a region (x, y, width, height) of a picture of `size`, height and width.

    Raises OptionError unless it is four integers, has a pixel and lies in the picture.
    """
    try:
        x, y, width, height = map(operator.index, crop)
    except (TypeError, ValueError):
        raise OptionError(
            f"a region is four integers (x, y, width, height), in pixels, not {crop!r}"
        ) from None
    if min(x, y) < 0 or min(width, height) < 1 or x + width > size[1] or y + height > size[0]:
        raise OptionError(
            f"the region {x},{y},{width},{height} does not lie in the picture of "
            f"{size[1]}x{size[0]}"
        )
    return Box(y, x, y + height, x + width)
