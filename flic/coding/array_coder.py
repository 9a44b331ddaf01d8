"""Tile by tile through a network that takes arrays: the codec for a FLIC module on any device.

On a CPU without torch the C library does the same (native_coder.py, csrc/codec/codec.cpp).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

import numpy as np
from PIL import Image

from ..config import Config
from ..errors import CheckpointError, FormatError, StreamMismatch
from ..format import container
from ..format.container import Container
from ..format.tile_grid import Box, Grid, Tile, input_box, latent_box, streams_for
from . import limits, slice_loop
from .entropy_engine import Engine
from .padding import mean_colour, pad
from .request import Progress, Request, silent

_AGAIN = 4  # the part of the iterations that another step takes


class Network(Protocol):
    """config, metadata: of the model. fingerprint: its 16 hexadecimal digits."""

    config: Config
    metadata: Mapping[str, str]
    fingerprint: str

    def check(self) -> None:
        """Raise CheckpointError where g_s cannot draw: an encoder does not run it, and would write
        files that show nothing. What else coding takes is checked on the way."""

    def engine(self) -> Engine:
        """For the threads and the instruction set in use."""

    def analyze(self, x: np.ndarray, tile: Tile, dtype: str) -> slice_loop.Unrounded:
        """What is to be rounded and coded for a tile.

        x: the padded picture inside `tile_grid.input_box`, float32 [H, W, 3] in [0, 1].
        dtype: in which g_a computes, of config.DTYPES.
        """

    def synthesize(self, y_hat: np.ndarray, tile: Tile, dtype: str) -> np.ndarray:
        """A tile's pixels in [0, 1], [H, W, 3], from y_hat inside `tile_grid.latent_box`.

        y_hat: float32 [M, h, w]. dtype: in which g_s computes. Raises CheckpointError where a pixel
        is NaN or infinity.
        """

    def around(
        self, analysed: slice_loop.Unrounded, x: np.ndarray, step: float
    ) -> tuple[tuple[float, float], ...]:
        """Bits and summed squared errors of a tile at a finer and at a coarser step.

        x: what of the picture lies in the tile's core, uint8 [H, W, 3].
        """

    def refine(
        self,
        analysed: slice_loop.Unrounded,
        x: np.ndarray,
        step: float,
        slope: float,
        iterations: int,
        progress: Callable[[int, float], None],
        enough: Callable[[], bool],
    ) -> slice_loop.Unrounded:
        """Latents with less bits + slope error, the error being the sum of all squares.

        progress: told how many of the iterations are done, and the cost in bits a pixel. enough:
        whether to end with what there is.
        """


class ArrayCoder:
    """Codes pictures with a network."""

    def __init__(self, network: Network) -> None:
        self.network, self.config, self.metadata = network, network.config, network.metadata
        self.fingerprint = network.fingerprint
        self._checked = False

    def begin(self, asked: Request) -> ArrayEncoding:
        """A picture in the course of being coded."""
        self._check()
        return ArrayEncoding(self, asked)

    def image(self, file: Container, region: Box, dtype: str, progress: Progress) -> Image.Image:
        """A region of a file's picture, of mode RGB, or L where it is gray; raises FlicError."""
        self._check()
        latents = functools.partial(self._decode_tile, file)
        return _image(self._pixels(file.grid, region, file.gray, latents, dtype, progress))

    def verify(self, file: Container) -> None:
        """Decode all but the picture itself; raises as `image`."""
        for i in range(len(file.streams)):
            self._decode_tile(file, i)

    def _check(self) -> None:
        """Look at the weights once."""
        if not self._checked:
            self.network.check()
            self._checked = True

    def _pixels(
        self,
        grid: Grid,
        region: Box,
        gray: bool,
        latents: Callable[[int], np.ndarray],
        dtype: str,
        progress: Progress,
    ) -> np.ndarray:
        """A region of a picture, uint8 [H, W, 3], or [H, W, 1] where it is gray.

        latents: gives y_hat [M, h, w] of a tile; asked for those that the region needs.
        """
        drawn, needed = grid.meeting(region), streams_for(grid, region)
        boxes = [latent_box(grid[i]) for i in drawn]
        steps = len(needed) + len(drawn)
        hull = functools.reduce(Box.around, boxes)
        shape = (self.config.latent, hull.height // 16, hull.width // 16)
        limits.check_latents(self.config, (hull.height, hull.width))
        y_hat = np.empty(shape, np.float32)
        for done, j in enumerate(needed, 1):
            core = grid[j].core
            part = core.common(hull)
            decoded = latents(j)
            y_hat[..., *part.slices(hull, 16)] = decoded[..., *part.slices(core, 16)]
            progress(done, steps)
        pixels = np.empty((region.height, region.width, 1 if gray else 3), np.uint8)
        for done, (i, box) in enumerate(zip(drawn, boxes, strict=True), len(needed) + 1):
            core = grid[i].core
            part = core.common(region)
            values = self._draw(y_hat[..., *box.slices(hull, 16)], grid[i], gray, dtype)
            pixels[part.slices(region)] = values[part.slices(core)]
            progress(done, steps)
        return pixels

    def _decode_tile(self, file: Container, i: int) -> np.ndarray:
        """y_hat [M, h, w] of stream i."""
        core, margins = file.grid[i].core, file.grid[i].margins
        size, engine = (core.height, core.width), self.network.engine()
        try:
            return slice_loop.decode(
                engine, self.config, file.streams[i], size, margins, file.step
            )[1]
        except (FormatError, StreamMismatch) as error:
            if file.tile is None:
                raise
            raise type(error)(f"{file.grid.name(i)}: {error}") from error

    def _draw(self, y_hat: np.ndarray, tile: Tile, gray: bool, dtype: str) -> np.ndarray:
        """A tile's pixels, uint8 [H, W, 3], or [H, W, 1]."""
        x_hat = self.network.synthesize(y_hat, tile, dtype)
        if gray:
            x_hat = x_hat.mean(2, keepdims=True)
        return np.rint(x_hat * np.float32(255)).astype(np.uint8)


class ArrayEncoding:
    """A picture in the course of being coded."""

    def __init__(self, coder: ArrayCoder, asked: Request) -> None:
        self._coder, self._gray = coder, asked.image.mode == "L"
        self._image = np.asarray(asked.image)  # without a copy of its own
        if self._gray:
            self._image = np.broadcast_to(self._image[..., None], (*self._image.shape, 3))
        self._dtype, self._iterations = asked.dtype, asked.iterations
        self._enough = asked.enough
        self._grid = Grid(self._image.shape[:2], asked.tile)
        self._again = asked.again or asked.iterations > 0
        self._kept: list[slice_loop.Unrounded] = []  # of each tile
        self._better: list[slice_loop.Unrounded] = []  # refined, for the latest step
        self._latents: list[np.ndarray] = []  # y_hat of each tile of the latest file

    def file(self, frame: Container, step: float, progress: Progress) -> bytes:
        """The file of `frame` with the picture's streams at this step; raises CheckpointError."""
        tiles = len(self._grid)
        if self._again and not self._kept:
            for each in self._analysed():
                self._kept.append(each)
                progress(len(self._kept), 2 * tiles)
        if self._iterations:
            return self._refined(frame, step, progress)
        coded, before = [], tiles if self._again else 0
        for i, each in enumerate(self._kept if self._again else self._analysed()):
            coded.append(self._code(each, self._grid[i], step))
            progress(before + i + 1, before + tiles)
        return self._packed(frame, coded, step)

    def _packed(self, frame: Container, coded: list[slice_loop.Coded], step: float) -> bytes:
        if self._again:
            self._latents = [each.y_hat for each in coded]
        streams = tuple(each.stream for each in coded)
        return container.pack(dataclasses.replace(frame, streams=streams, step=step))

    def _refined(self, frame: Container, step: float, progress: Progress) -> bytes:
        """The better of two files: of latents as they are, and refined for what a squared error is
        worth, in bits, at this step."""
        network, tiles = self._coder.network, list(self._grid)
        parts = [self._image[box.top : box.bottom, box.left : box.right] for box, *_ in tiles]
        beside = [network.around(*each, step) for each in zip(self._kept, parts, strict=True)]
        (fine_bits, fine_error), (bits, error) = np.sum(beside, axis=0)
        if not error > fine_error or not fine_bits > bits:
            return self._packed(frame, self._all(self._kept, step), step)  # no trade to improve
        slope = float((fine_bits - bits) / (error - fine_error))
        # What was refined for another step is a good start.
        start = self._better or self._kept
        count = max(self._iterations // _AGAIN, 1) if self._better else self._iterations
        self._better = [
            network.refine(
                each, part, step, slope, count,
                lambda done, cost, i=i: progress(i * count + done, len(tiles) * count, cost),
                self._enough,
            )
            for i, (each, part) in enumerate(zip(start, parts, strict=True))
        ]  # fmt: skip
        choices = []  # cost, file and what it decodes from
        for latents in (self._kept, self._better):
            data = self._packed(frame, self._all(latents, step), step)
            difference = self._pixels().astype(np.float64) - self._image
            cost = 8 * len(data) + slope * np.square(difference / 255).sum()
            choices.append((cost, data, self._latents))
        _, data, self._latents = min(choices, key=lambda choice: choice[0])
        return data

    def image(self) -> Image.Image:
        """What the latest file decodes to, of the picture's mode; where it is coded again."""
        return _image(self._pixels())

    def _pixels(self) -> np.ndarray:
        """The same, uint8 [H, W, 3] or [H, W, 1]."""
        whole = Box(0, 0, *self._image.shape[:2])
        latents = self._latents.__getitem__
        return self._coder._pixels(self._grid, whole, self._gray, latents, self._dtype, silent)

    def _analysed(self) -> Iterator[slice_loop.Unrounded]:
        """Each tile's latents, before they are rounded; when it is asked for."""
        mean = mean_colour(self._image)
        for part in self._grid:
            box = input_box(part)
            inside = self._image[box.top : box.bottom, box.left : box.right]
            x = pad(inside, (box.height, box.width), mean)
            yield self._coder.network.analyze(x, part, self._dtype)

    def _all(self, latents: list[slice_loop.Unrounded], step: float) -> list[slice_loop.Coded]:
        return [self._code(*each, step) for each in zip(latents, self._grid, strict=True)]

    def _code(self, analysed: slice_loop.Unrounded, tile: Tile, step: float) -> slice_loop.Coded:
        engine, config = self._coder.network.engine(), self._coder.config
        try:
            return slice_loop.code(engine, config, analysed.at(step), tile.margins, step)
        except ValueError as error:  # NaN or infinity on the way
            if isinstance(error, CheckpointError):
                raise
            raise CheckpointError(f"the model cannot code this picture: {error}") from error


def _image(pixels: np.ndarray) -> Image.Image:
    """Of uint8 [H, W, 3] or [H, W, 1]."""
    return Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0])
