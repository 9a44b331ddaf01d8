"""Where tiles lie: they cover the padded picture once, and margins are what docs/format.md says."""

import numpy as np
import pytest

from flic.errors import OptionError
from flic.format import tile_grid
from flic.format.tile_grid import Box, Grid, Margins, Tile

SIZES = [(1, 129), (129, 257), (300, 520), (640, 640), (1000, 1)]


@pytest.mark.parametrize("side", [128, 256, 384])
@pytest.mark.parametrize("size", SIZES)
def test_every_pixel_is_in_one_tile(size, side):
    tiles = Grid(size, side)
    height, width = (-(-length // 128) * 128 for length in size)
    assert tiles.bounds == Box(0, 0, height, width)
    counted = np.zeros((height, width), int)
    for i, tile in enumerate(tiles):
        assert tile == tiles[i] and tile.bounds == tiles.bounds
        assert tile.core.height <= side >= tile.core.width
        counted[tile.core.slices(tiles.bounds)] += 1
    assert (counted == 1).all()
    assert len(tiles) == -(-height // side) * -(-width // side)
    order = [tile.core[:2] for tile in tiles]
    assert order == sorted(order)
    with pytest.raises(IndexError):
        tiles[len(tiles)]


def test_margins_go_where_there_are_neighbours():
    margins = [tile.margins for tile in Grid((384, 129), 128)]
    assert margins == [
        Margins(0, 0, 128, 128), Margins(0, 128, 128, 0),
        Margins(64, 0, 64, 128), Margins(64, 128, 64, 0),
        Margins(128, 0, 0, 128), Margins(128, 128, 0, 0),
    ]  # fmt: skip
    (whole,) = Grid((384, 129), None)
    assert whole == Tile.whole((384, 129)) and whole.margins == Margins()


@pytest.mark.parametrize("size", SIZES)
def test_what_is_coded_together_suits_the_networks(size):
    """Multiples of 128 pixels: T-CA's windows are 8x8 positions at 1/16."""
    for tile in Grid(size, 128):
        coded = tile.coded
        assert coded.common(tile.bounds) == coded == coded.around(tile.core)
        assert coded.height % 128 == coded.width % 128 == 0
        assert all(margin in (0, 64, 128) for margin in tile.margins)


def test_boxes():
    box, bounds = Box(10, 20, 30, 60), Box(0, 0, 50, 64)
    assert (box.height, box.width) == (20, 40)
    assert box.grown(15, bounds) == Box(0, 5, 45, 64)
    assert box.margins_to(bounds) == Margins(10, 20, 20, 4)
    assert Box(64, 128, 128, 256).slices(Box(0, 64, 256, 256), 16) == (slice(4, 8), slice(4, 12))


def test_tiles_that_a_box_meets():
    tiles = Grid((384, 384), 128)
    assert tiles.meeting(Box(0, 0, 1, 1)) == [0]
    assert tiles.meeting(Box(127, 127, 129, 129)) == [0, 1, 3, 4]
    assert tiles.meeting(Box(128, 0, 256, 384)) == [3, 4, 5]
    assert tiles.name(5) == "tile 5 (row 1, column 2)"


@pytest.mark.parametrize("size", SIZES)
def test_the_tiles_met_are_those_with_a_common_pixel(size):
    tiles = Grid(size, 128)
    bottom, right = tiles.bounds[2:]
    edges = [(-50, 70), (0, 128), (127, 129), (128, 256), (200, 1000), (500, 501), (7, 7), (9, 3)]
    boxes = [Box(t, left, b, r) for t, b in edges for left, r in edges]
    for box in (*boxes, tiles.bounds, Box(bottom, 0, bottom + 9, 9), Box(0, right, 9, right + 9)):
        common = [tile.core.common(box) for tile in tiles]
        met = [i for i, part in enumerate(common) if min(part.height, part.width) > 0]
        assert tiles.meeting(box) == met


def test_meeting_a_box_looks_at_no_other_tile(monkeypatch):
    """Each of n tiles asks for its neighbours: n times all of them was a minute's work."""
    tiles = Grid((8192, 8192), 128)
    monkeypatch.setattr(Grid, "__getitem__", None)
    assert tiles.meeting(Box(8064, 8000, 8192, 8192)) == [4094, 4095]


def test_the_choice():
    assert tile_grid.choose((2048, 2048)) is None
    assert tile_grid.choose((2048, 2049)) == tile_grid.choose((65535, 65), "auto") == 1024
    assert tile_grid.choose((8192, 8192), "none") is None
    assert tile_grid.choose((100, 129), 128) == 128
    assert tile_grid.choose((256, 256), 256) is None  # one tile is no tile
    for wrong in (0, 64, 200, -128, 128.0, "128", "all", None):
        with pytest.raises(OptionError, match="tile size"):
            tile_grid.choose((500, 500), wrong)


def test_regions():
    assert tile_grid.check_crop((3, 2, 7, 5), (7, 10)) == Box(2, 3, 7, 10)
    for wrong in ((-1, 0, 1, 1), (0, -1, 1, 1), (0, 0, 0, 1), (0, 0, 1, 0), (4, 0, 7, 1)):
        with pytest.raises(OptionError, match="does not lie in the picture of 10x7"):
            tile_grid.check_crop(wrong, (7, 10))
