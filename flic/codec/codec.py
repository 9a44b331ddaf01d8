"""Pictures to .flic files and back."""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flic_kernels import native

from .. import config
from ..coding import slice_loop
from ..coding.native_network import NativeNetwork
from ..coding.padding import mean_colour, pad
from ..errors import (
    CallError,
    CheckpointError,
    FormatError,
    ModelMismatchError,
    OptionError,
    PictureError,
    StreamMismatch,
)
from ..format import container
from ..format.container import Container
from ..format.tile_grid import (
    Box,
    Grid,
    Tile,
    check_crop,
    choose,
    input_box,
    latent_box,
    streams_for,
)
from ..pictures import images, metrics
from ..pictures.images import Picture
from .lifetime import ends_before_exit
from .rate import Rate, search

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from ..model.network import FLIC
    from ..model.torch_network import TorchNetwork

Crop = tuple[int, int, int, int]
"""x, y, width and height of a region, in pixels."""
Progress = Callable[[int, int], None]
"""Told how many of how many parts are done: a part is a tile analysed, coded, decoded or drawn."""


def _silent(done: int, parts: int) -> None:
    pass


class Encoded(NamedTuple):
    """A .flic file as its encoder knows it.

    step: the quantisation step. reached: what the file has of the rate's target (bits a pixel,
    bytes, or dB); None where there was none.
    """

    data: bytes
    step: float
    reached: float | None


class Codec:
    """A model, ready to code pictures; its weights must not change while it is in use.

    model: a FLIC, or a network that codes without torch (`flic.model.weights.open_network`).
    dtype: in which g_a and g_s compute, torch.float32 or torch.bfloat16, or their names. What feeds
        the coding tables is float32 in any case, so files open whatever was chosen.
    """

    def __init__(self, model: FLIC | NativeNetwork, dtype: torch.dtype | str = "float32") -> None:
        self.network = _network(model)
        self.model = model
        self.dtype = str(dtype).removeprefix("torch.")
        if self.dtype not in config.DTYPES:
            known = " or ".join(f"torch.{name}" for name in config.DTYPES)
            raise OptionError(f"dtype must be {known}, not {dtype!r}")
        self.fingerprint = bytes.fromhex(self.network.fingerprint)
        self._checked = False

    def encode(
        self, image: Any, *, rate: Rate | None = None, strip: bool = False, tile: int | str = "auto"
    ) -> bytes:
        """A .flic file of anything that `flic.images.read` takes; `rate` as for `encode_at`, the
        others as for `flic.encode`."""
        picture = images.read(image, strip=strip)
        return self.encode_picture(picture, rate=rate, tile=tile)

    def encode_picture(self, picture: Picture, *, rate: Rate | None = None, **options) -> bytes:
        """A .flic file of a picture; `rate` and options as for `encode_at`."""
        return self.encode_at(rate or Rate(), picture, **options).data

    @ends_before_exit
    @native.interruptible()
    def encode_at(
        self,
        rate: Rate,
        picture: Picture,
        *,
        tile: int | str = "auto",
        progress: Progress = _silent,
    ) -> Encoded:
        """A .flic file of a picture, with what came of the rate that was asked for.

        rate: a target is approached by coding again and again what was analysed once; where no step
        reaches it, the nearest is taken, and the caller is to look at `reached`. tile: as for
        `flic.encode`. Raises as `flic.encode`.
        """
        self._check_weights()
        step = rate.fixed(self.network.metadata)
        size = (picture.height, picture.width)
        side = choose(size, tile)
        grid = Grid(size, side)
        analysed = self._analysed(picture.pixels, grid)
        frame = Container(
            width=picture.width,
            height=picture.height,
            fingerprint=self.fingerprint,
            streams=(),
            gray=picture.gray,
            alpha=None if picture.alpha is None else images.alpha_to_png(picture.alpha),
            icc=picture.icc,
            exif=picture.exif,
            tile=side,
        )
        try:
            if rate.target is None:
                streams = []
                for i, each in enumerate(analysed):
                    streams.append(self._code(each, grid[i], step).stream)
                    progress(i + 1, len(grid))
                return Encoded(_file(frame, streams, step), step, None)
            kept = []
            for each in analysed:
                kept.append(each)
                progress(len(kept), 2 * len(grid))
            trial = functools.partial(self._trial, frame, kept, picture, rate)
            step, reached, data = search(rate, trial)
            return Encoded(data, step, reached)
        except ValueError as error:  # NaN or infinity on the way
            raise CheckpointError(f"the model cannot code this picture: {error}") from error

    def _analysed(self, pixels: np.ndarray, grid: Grid) -> Iterator[slice_loop.Unrounded]:
        """Each tile's latents, before they are rounded; when it is asked for."""
        mean = mean_colour(pixels)
        for part in grid:
            box = input_box(part)
            inside = pixels[box.top : box.bottom, box.left : box.right]
            x = pad(inside, (box.height, box.width), mean)
            yield self.network.analyze(x, part, self.dtype)

    def _code(self, analysed: slice_loop.Unrounded, tile: Tile, step: float) -> slice_loop.Coded:
        engine = self.network.engine()
        return slice_loop.code(engine, self.network.config, analysed.at(step), tile.margins, step)

    def _trial(
        self,
        frame: Container,
        analysed: list[slice_loop.Unrounded],
        picture: Picture,
        rate: Rate,
        step: float,
    ) -> tuple[float, bytes]:
        """What the file of a step has of the rate's target, and the file."""
        grid, target = frame.grid, rate.target
        coded = [self._code(each, tile, step) for each, tile in zip(analysed, grid, strict=True)]
        data = _file(frame, [each.stream for each in coded], step)
        if target == "psnr":
            whole = Box(0, 0, frame.height, frame.width)
            latents = [each.y_hat for each in coded]
            pixels = self._pixels(grid, whole, picture.gray, latents.__getitem__, _silent)
            return metrics.psnr(picture.pixels, pixels), data
        if target == "bpp":
            return metrics.bits_per_pixel(len(data), frame.width, frame.height), data
        return len(data), data

    def decode(self, data: Any, *, crop: Crop | None = None) -> Image.Image:
        """The picture of a .flic file, with alpha and metadata; arguments as for `flic.decode`."""
        return self.decode_picture(data, crop=crop).to_pil()

    @ends_before_exit
    @native.interruptible()
    def decode_picture(
        self,
        data: Any,
        *,
        crop: Crop | None = None,
        progress: Progress = _silent,
    ) -> Picture:
        """The picture of a .flic file; raises FlicError rather than give a wrong one.

        data: as for `flic.decode`, or what `container.unpack` gives. crop: as for `flic.decode`.
        """
        file = self._file(data)
        self._check_weights()
        whole = Box(0, 0, file.height, file.width)
        region = whole if crop is None else check_crop(crop, (file.height, file.width))
        alpha = self._alpha(file)
        if alpha is not None:
            alpha = alpha[region.slices(whole)]
        pixels = self._pixels(
            file.grid, region, file.gray, functools.partial(self._decode_tile, file), progress
        )
        return Picture(pixels, file.gray, alpha, file.icc, file.exif)

    @ends_before_exit
    @native.interruptible()
    def verify(self, data: Any) -> None:
        """Decode all but the picture itself and compare checksums; raises FlicError.

        data: as for `decode_picture`.
        """
        file = self._file(data)
        self._alpha(file)
        for i in range(len(file.streams)):
            self._decode_tile(file, i)

    def _check_weights(self) -> None:
        """Raise CheckpointError where g_s cannot draw; once."""
        if not self._checked:
            self.network.check()
            self._checked = True

    def _file(self, data: Any) -> Container:
        """A file's fields, once it is known that this model made it."""
        file = data if isinstance(data, Container) else container.unpack(container.read(data))
        if file.fingerprint != self.fingerprint:
            raise ModelMismatchError(
                f"the file was made with model {file.fingerprint.hex()}, "
                f"the model given is {self.fingerprint.hex()}"
            )
        return file

    def _alpha(self, file: Container) -> np.ndarray | None:
        if file.alpha is None:
            return None
        try:
            return images.alpha_from_png(file.alpha, file.width, file.height)
        except PictureError as error:
            raise FormatError(f"the file is damaged: {error}") from error

    def _pixels(
        self,
        grid: Grid,
        region: Box,
        gray: bool,
        latents: Callable[[int], np.ndarray],
        progress: Progress,
    ) -> np.ndarray:
        """A region of a picture, uint8 [H, W, 3].

        latents: gives y_hat [M, h, w] of a tile; asked for those that the region needs.
        """
        drawn, needed = grid.meeting(region), streams_for(grid, region)
        boxes = [latent_box(grid[i]) for i in drawn]
        steps = len(needed) + len(drawn)
        hull = functools.reduce(Box.around, boxes)
        shape = (self.network.config.latent, hull.height // 16, hull.width // 16)
        y_hat = np.empty(shape, np.float32)
        for done, j in enumerate(needed, 1):
            core = grid[j].core
            part = core.common(hull)
            decoded = latents(j)
            y_hat[..., *part.slices(hull, 16)] = decoded[..., *part.slices(core, 16)]
            progress(done, steps)
        pixels = np.empty((region.height, region.width, 3), np.uint8)
        for done, (i, box) in enumerate(zip(drawn, boxes, strict=True), len(needed) + 1):
            core = grid[i].core
            part = core.common(region)
            values = self._draw(y_hat[..., *box.slices(hull, 16)], grid[i], gray)
            pixels[part.slices(region)] = values[part.slices(core)]
            progress(done, steps)
        return pixels

    def _decode_tile(self, file: Container, i: int) -> np.ndarray:
        """y_hat [M, h, w] of stream i."""
        core, margins = file.grid[i].core, file.grid[i].margins
        size, engine = (core.height, core.width), self.network.engine()
        try:
            return slice_loop.decode(
                engine, self.network.config, file.streams[i], size, margins, file.step
            )[1]
        except (FormatError, StreamMismatch) as error:
            if file.tile is None:
                raise
            raise type(error)(f"{file.grid.name(i)}: {error}") from error

    def _draw(self, y_hat: np.ndarray, tile: Tile, gray: bool) -> np.ndarray:
        """A tile's pixels, uint8 [H, W, 3]."""
        x_hat = self.network.synthesize(y_hat, tile, self.dtype)
        if gray:
            x_hat = np.broadcast_to(x_hat.mean(2, keepdims=True), x_hat.shape)
        return np.rint(x_hat * np.float32(255)).astype(np.uint8)


def _network(model: object) -> NativeNetwork | TorchNetwork:
    """What codes for a model; a FLIC there can be only where torch has been imported."""
    if isinstance(model, NativeNetwork):
        return model
    if "torch" in sys.modules:
        from ..model.network import FLIC
        from ..model.torch_network import TorchNetwork

        if isinstance(model, FLIC):
            return TorchNetwork(model)
    raise CallError(
        f"Codec takes a model, not {type(model).__name__}: Codec(flic.load_model(NAME or FILE)); "
        "flic.encode and flic.decode take names, too"
    )


def _file(frame: Container, streams: list[bytes], step: float) -> bytes:
    """The file of `frame` with these streams, coded at this step."""
    return container.pack(dataclasses.replace(frame, streams=tuple(streams), step=step))
