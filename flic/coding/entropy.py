"""From integers to a stream and back: the one slice loop that encoder and decoder both run.

z is coded by its prior's tables; it gives the hyper features. Then T-CA takes slice after slice of
y: means and scales from what is known so far, indexes into the Gaussian tables from them, the
slice's integers through the coder, and on. The exact engine computes all that feeds the tables, and
caches keys and values, so a picture costs one T-CA pass.

A tile of a larger picture is coded as a picture of its own that is known to go on: the networks see
margins around it, in which z and each slice of y repeat the tile's border. Without them the latents
at a tile's border cost about twice as much, for the networks know zeros beyond a border.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from flic_kernels import native, rans

from ..config import STRIDE, Config
from ..errors import StreamMismatch
from ..format import stream as streams
from ..format.tile_grid import Margins
from . import limits
from .entropy_engine import Engine, engine_of

if TYPE_CHECKING:
    from ..model.network import FLIC

WHOLE = Margins()
"""Of a picture that is coded whole."""
_LIMIT = 2**24  # integers below are exact in float32, and those of a picture are far below


@dataclass
class Latents:
    """The integers of a batch of pictures: y int32 [B, M, h, w] and z int32 [B, N, h/4, w/4].

    step: the quantisation step, a float32, of which y counts multiples.
    """

    y: Tensor
    z: Tensor
    step: float = 1.0

    @classmethod
    def from_floats(cls, y: Tensor, z: Tensor, step: float = 1.0) -> Latents:
        """Rounded latents; z is given less its medians. ValueError where they are not finite."""
        y = y / step
        for name, value in (("y", y), ("z", z)):
            if not bool((value.abs() < _LIMIT).all()):
                raise ValueError(f"the latents {name} hold NaN, infinity or absurd values")
        return cls(torch.round(y).to(torch.int32), torch.round(z).to(torch.int32), step)

    def crc32(self, i: int) -> int:
        """CRC-32 of picture i: z, then y, as little-endian int32 by channel, row, column."""
        return _crc32(self.z[i].cpu(), self.y[i].cpu())


class Unrounded(NamedTuple):
    """What g_a and h_a give for a batch of pictures, z less its medians; shapes as in `Latents`."""

    y: Tensor
    z: Tensor

    def at(self, step: float = 1.0) -> Latents:
        """The integers at a step; raises ValueError as `Latents.from_floats`."""
        return Latents.from_floats(self.y, self.z, step)


class Coded(NamedTuple):
    """A picture, or tile, as its encoder leaves it: the stream, and g_s's input [M, h, w]."""

    stream: bytes
    y_hat: Tensor


def _bytes(x: Tensor) -> bytes:
    return x.contiguous().numpy().astype("<i4", copy=False).tobytes()


def _crc32(z: Tensor, y: Tensor) -> int:
    return zlib.crc32(_bytes(y), zlib.crc32(_bytes(z)))


class _Writer:
    """The encoder's end of the loop: it knows the integers and writes them."""

    def __init__(self, z: Tensor, y: Tensor, slice_channels: int):
        self._parts = iter((z, *y.split(slice_channels)))
        self._checks = []
        self._crc = _crc32(z, y)
        self._coder = rans.Encoder()

    def code(self, centers: Tensor | int, indexes: Tensor, tables: rans.Tables) -> Tensor:
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

    def code(self, centers: Tensor | int, indexes: Tensor, tables: rans.Tables) -> Tensor:
        return self._coder.pull(indexes, tables) + centers

    def guard(self, check: int) -> None:
        i, expected = next(self._checks)
        if check != expected:
            raise StreamMismatch(
                f"slice {i} of the stream has other table indexes on this machine than on the one "
                "that made it"
            )

    def finish(self, z: Tensor, y: Tensor) -> None:
        self._coder.close()
        if _crc32(z, y) != self._crc:
            raise StreamMismatch(
                "the stream decodes to other latents on this machine than on the one that made it"
            )


def encode(
    model: FLIC,
    latents: Latents,
    engine: Engine | None = None,
    margins: Margins = WHOLE,
) -> list[bytes]:
    """One stream for each picture, or tile; as `code`."""
    return [coded.stream for coded in code(model, latents, engine, margins)]


@torch.no_grad()
@native.default_float_environment()
def code(
    model: FLIC,
    latents: Latents,
    engine: Engine | None = None,
    margins: Margins = WHOLE,
) -> list[Coded]:
    """Each picture, or tile, as a stream and as what a decoder will give g_s, on the CPU.

    Args:
        engine: of this model, to run on another instruction set or number of threads than its own.
        margins: around a tile, in pixels: multiples of 64, of 128 the two of a direction together.

    Raises:
        CheckpointError: the weights cannot code.
        DeviceError: coding needs more memory than is available.
        ValueError: NaN or infinity among the means and scales; nothing is written.
    """
    limits.check_coding(model.config, _with_margins(latents.y.shape[2:], margins))
    coded, engine, step = [], engine or engine_of(model), latents.step
    for y, z in zip(latents.y.cpu(), latents.z.cpu(), strict=True):
        writer = _Writer(z, y, model.config.slice_channels)
        shape = tuple(z.shape[1:])
        _, _, lrp = _slice_loop(engine, model.config, writer, shape, margins, step)
        coded.append(Coded(writer.finish(), _corrected(y, lrp, step)))
    return coded


@torch.no_grad()
@native.default_float_environment()
def decode(
    model: FLIC,
    coded: Sequence[bytes],
    size: tuple[int, int],
    engine: Engine | None = None,
    margins: Margins = WHOLE,
    step: float = 1.0,
) -> tuple[Latents, Tensor]:
    """The integers of streams of pictures, or tiles, of one size, and g_s's input.

    Args:
        size: height and width of the pictures.
        engine, margins: as for `code`.
        step: the quantisation step that y was coded with.

    Returns:
        latents (on the CPU), and y_hat [B, M, h, w] = step (y + 0.5 tanh(lrp)) on the model's
        device.

    Raises:
        StreamMismatch: damaged, made by other weights, or computed otherwise here than there.
        FormatError: not a stream, or one too short for the size.
        CheckpointError: the weights cannot code.
        DeviceError: coding needs more memory than is available.
    """
    shape = tuple(-(-side // STRIDE) * (STRIDE // 64) for side in size)
    limits.check_coding(model.config, _with_margins([4 * side for side in shape], margins))
    engine = engine or engine_of(model)
    device = next(model.parameters()).device
    parts, corrected = [], []
    for data in coded:
        try:
            reader = _Reader(data, model.config.slices)
            limits.check_length(reader.payload_bytes, engine.z_tables, model.config, shape)
            z, y, lrp = _slice_loop(engine, model.config, reader, shape, margins, step)
            reader.finish(z, y)
        except ValueError as error:  # the coder's CorruptStream, or NaN from absurd integers
            raise StreamMismatch(f"the stream does not decode: {error}") from error
        parts.append((y, z))
        corrected.append(_corrected(y, lrp, step))
    latents = Latents(*(torch.stack(part) for part in zip(*parts, strict=True)), step)
    return latents, torch.stack(corrected).to(device)


def _corrected(y: Tensor, lrp: Tensor, step: float) -> Tensor:
    """g_s's input from the integers and T-CA's correction."""
    return step * (y + 0.5 * torch.tanh(lrp))


def _slice_loop(
    engine: Engine,
    config: Config,
    end: _Writer | _Reader,
    shape: tuple[int, int],
    margins: Margins,
    step: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Code one picture whose z is [N, *shape]; gives z, y (int32) and lrp (float32)."""
    channels = torch.arange(config.hyper, dtype=torch.int32)
    indexes = channels[:, None, None].expand(-1, *shape).contiguous()
    z = end.code(0, indexes, engine.z_tables)
    # By numpy, in this thread: torch's have float environments of their own.
    z_hat = _extend(z.numpy().astype(np.float32) + engine.medians, margins, 64)
    picture = engine.networks.open(torch.from_numpy(z_hat), step)
    tables = rans.gaussian_tables()
    inside = _inside(picture.size, margins)
    slices, corrections, previous = [], [], None
    for _ in range(config.slices):
        features = picture.next_slice(previous)
        means, scales, lrp = (feature[inside].contiguous() for feature in features)
        indexes, centers = rans.gaussian_indexes(means, scales, tables)
        end.guard(streams.check(_bytes(indexes), _bytes(centers)))
        symbols = end.code(centers, indexes, tables)
        slices.append(symbols)
        corrections.append(lrp)
        previous = torch.from_numpy(_extend(symbols.numpy(), margins, 16))
    return z, torch.cat(slices), torch.cat(corrections)


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
