"""From integers to a stream and back: the one slice loop that encoder and decoder both run.

z is coded by its prior's tables; it gives the hyper features. Then T-CA takes slice after slice of
y: means and scales from what is known so far, indexes into the Gaussian tables from them, the
slice's integers through the coder, and on. The exact engine computes all that feeds the tables, and
caches keys and values, so a picture costs one T-CA pass.

A tile of a larger picture is coded as a picture of its own that is known to go on: the networks see
margins around it, in which z and each slice of y repeat the tile's border. Without them the latents
at a tile's border cost about twice as much, for the networks know zeros beyond a border.

Arrays are NumPy's; nothing here needs torch.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from flic_kernels import native, rans

from ..config import STRIDE, Config
from ..errors import FormatError, StreamMismatch
from ..format import stream as streams
from ..format.tile_grid import Margins
from . import limits
from .entropy_engine import Engine

WHOLE = Margins()
"""Of a picture that is coded whole."""
_LIMIT = 2**24  # integers below are exact in float32, and those of a picture are far below


class Latents(NamedTuple):
    """A picture's integers: y int32 [M, h, w], in steps, and z int32 [N, h/4, w/4]."""

    y: np.ndarray
    z: np.ndarray

    def crc32(self) -> int:
        """CRC-32 of z, then y, as little-endian int32 by channel, row, column."""
        return zlib.crc32(_bytes(self.y), zlib.crc32(_bytes(self.z)))


class Unrounded(NamedTuple):
    """What g_a and h_a give for a picture, z less its medians; shapes as in `Latents`."""

    y: np.ndarray
    z: np.ndarray

    def at(self, step: float = 1.0) -> Latents:
        """The integers at a step; ValueError where they are not finite."""
        rounded = []
        for name, value in (("y", self.y / np.float32(step)), ("z", self.z)):
            if not bool((np.abs(value) < _LIMIT).all()):
                raise ValueError(f"the latents {name} hold NaN, infinity or absurd values")
            rounded.append(np.rint(value).astype(np.int32))
        return Latents(*rounded)


class Coded(NamedTuple):
    """A picture, or tile, as its encoder leaves it: the stream, and g_s's input [M, h, w]."""

    stream: bytes
    y_hat: np.ndarray


def _bytes(x: np.ndarray) -> bytes:
    return np.ascontiguousarray(x, "<i4").tobytes()


class _Writer:
    """The encoder's end of the loop: it knows the integers and writes them."""

    def __init__(self, latents: Latents, slices: int):
        self._parts = iter((latents.z, *np.split(latents.y, slices)))
        self._checks = []
        self._crc = latents.crc32()
        self._coder = rans.Encoder()

    def code(
        self, centers: np.ndarray | int, indexes: np.ndarray, tables: rans.Tables
    ) -> np.ndarray:
        symbols = next(self._parts)
        self._coder.push(symbols - centers, indexes, tables)
        return symbols

    def guard(self, check: int) -> None:
        self._checks.append(check)

    def finish(self) -> bytes:
        payload = self._coder.finish()
        return streams.pack(streams.Stream(self._crc, tuple(self._checks), payload))


class _Reader:
    """The decoder's end of the loop: it reads the integers and believes nothing."""

    def __init__(self, data: bytes, slices: int):
        stream = streams.unpack(data)
        if len(stream.checks) != slices:
            raise StreamMismatch(f"the stream has {len(stream.checks)} slices, the model {slices}")
        self._checks, self._crc = iter(enumerate(stream.checks)), stream.latents_crc
        self.payload_bytes = len(stream.payload)
        self._coder = rans.Decoder(stream.payload)

    def code(
        self, centers: np.ndarray | int, indexes: np.ndarray, tables: rans.Tables
    ) -> np.ndarray:
        return self._coder.pull(indexes, tables) + centers

    def guard(self, check: int) -> None:
        i, expected = next(self._checks)
        if check != expected:
            raise StreamMismatch(
                f"slice {i} of the stream has other table indexes on this machine than on the one "
                "that made it"
            )

    def finish(self, latents: Latents) -> None:
        self._coder.close()
        if latents.crc32() != self._crc:
            raise StreamMismatch(
                "the stream decodes to other latents on this machine than on the one that made it"
            )


@native.default_float_environment()
def code(
    engine: Engine, config: Config, latents: Latents, margins: Margins = WHOLE, step: float = 1.0
) -> Coded:
    """A picture, or tile, as a stream and as what a decoder will give g_s.

    Args:
        margins: around a tile, in pixels: multiples of 64, of 128 the two of a direction together.
        step: the quantisation step, a float32, of which y counts multiples.

    Raises:
        DeviceError: coding needs more memory than is available.
        ValueError: NaN or infinity among the means and scales; nothing is written.
    """
    limits.check_coding(config, _with_margins(latents.y.shape[1:], margins))
    writer = _Writer(latents, config.slices)
    _, lrp = _slice_loop(engine, config, writer, latents.z.shape[1:], margins, step)
    return Coded(writer.finish(), _corrected(latents.y, lrp, step))


@native.default_float_environment()
def decode(
    engine: Engine,
    config: Config,
    data: bytes,
    size: tuple[int, int],
    margins: Margins = WHOLE,
    step: float = 1.0,
) -> tuple[Latents, np.ndarray]:
    """The integers of a picture's, or tile's, stream, and g_s's input.

    Args:
        size: height and width of the picture.
        margins, step: as for `code`.

    Returns:
        latents, and y_hat float32 [M, h, w] = step (y + 0.5 tanh(lrp)).

    Raises:
        StreamMismatch: damaged, made by other weights, or computed otherwise here than there.
        FormatError: not a stream, or one too short for the size.
        DeviceError: coding needs more memory than is available.
    """
    shape = tuple(-(-side // STRIDE) * (STRIDE // 64) for side in size)
    limits.check_coding(config, _with_margins([4 * side for side in shape], margins))
    try:
        reader = _Reader(data, config.slices)
        limits.check_length(reader.payload_bytes, engine.z_tables, config, shape)
        latents, lrp = _slice_loop(engine, config, reader, shape, margins, step)
        reader.finish(latents)
    except FormatError:
        raise
    except ValueError as error:  # the coder's CorruptStream, or NaN from absurd integers
        raise StreamMismatch(f"the stream does not decode: {error}") from error
    return latents, _corrected(latents.y, lrp, step)


def _corrected(y: np.ndarray, lrp: np.ndarray, step: float) -> np.ndarray:
    """g_s's input from the integers and T-CA's correction: step (y + 0.5 tanh(lrp)).

    By the C library, so that a file's picture does not depend on what codes: tanh has other last
    bits in numpy.
    """
    y, lrp = np.ascontiguousarray(y, np.int32), np.ascontiguousarray(lrp, np.float32)
    out = np.empty(y.shape, np.float32)
    status = native.library().flic_correct(
        native.pointer(y), native.pointer(lrp), y.size, step, native.pointer(out)
    )
    native.check(status, "T-CA's correction")
    return out


def _slice_loop(
    engine: Engine,
    config: Config,
    end: _Writer | _Reader,
    shape: tuple[int, int],
    margins: Margins,
    step: float,
) -> tuple[Latents, np.ndarray]:
    """Code one picture whose z is [N, *shape]; gives its integers and lrp (float32)."""
    channels = np.arange(config.hyper, dtype=np.int32)
    indexes = np.ascontiguousarray(np.broadcast_to(channels[:, None, None], (config.hyper, *shape)))
    z = end.code(0, indexes, engine.z_tables)
    z_hat = _extend(z.astype(np.float32) + engine.medians, margins, 64)
    picture = engine.networks.open(z_hat, step)
    tables = rans.gaussian_tables()
    inside = _inside(picture.size, margins)
    slices, corrections, previous = [], [], None
    for _ in range(config.slices):
        features = picture.next_slice(previous)
        means, scales, lrp = (np.ascontiguousarray(feature[inside]) for feature in features)
        indexes, centers = rans.gaussian_indexes(means, scales, tables)
        end.guard(streams.check(_bytes(indexes), _bytes(centers)))
        symbols = end.code(centers, indexes, tables)
        slices.append(symbols)
        corrections.append(lrp)
        previous = _extend(symbols, margins, 16)
    return Latents(np.concatenate(slices), z), np.concatenate(corrections)


def _extend(x: np.ndarray, margins: Margins, scale: int) -> np.ndarray:
    """x [C, h, w], an element for scale x scale pixels, with its border repeated outwards."""
    if not any(margins):
        return x
    top, left, bottom, right = (margin // scale for margin in margins)
    return np.pad(x, ((0, 0), (top, bottom), (left, right)), mode="edge")


def _with_margins(shape: Sequence[int], margins: Margins) -> tuple[int, int]:
    """The height and width of y with its margins."""
    top, left, bottom, right = (margin // 16 for margin in margins)
    return shape[0] + top + bottom, shape[1] + left + right


def _inside(shape: tuple[int, int], margins: Margins) -> tuple[slice, ...]:
    """What of features [C, *shape] with margins is the picture."""
    top, left, bottom, right = (margin // 16 for margin in margins)
    return slice(None), slice(top, shape[0] - bottom), slice(left, shape[1] - right)
