"""From integers to a stream and back: the one slice loop that encoder and decoder both run.

z is coded by its prior's tables; it gives the hyper features. Then T-CA takes slice after slice of
y: means and scales from what is known so far, indexes into the Gaussian tables from them, the
slice's integers through the coder, and on. Keys and values are cached, so a picture costs one T-CA
pass.
"""

from __future__ import annotations

import weakref
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from flic_kernels import rans

from . import zprior
from .config import STRIDE

if TYPE_CHECKING:
    from .model import FLIC

_LIMIT = 2**30  # latents beyond this are not those of a picture
_z_tables = weakref.WeakKeyDictionary()  # not on the model: native tables cannot be copied with it


@dataclass
class Latents:
    """The integers of a batch of pictures: y int32 [B, M, h, w] and z int32 [B, N, h/4, w/4]."""

    y: Tensor
    z: Tensor

    @classmethod
    def from_floats(cls, y: Tensor, z: Tensor) -> Latents:
        """Rounded latents; z is given less its medians. ValueError where they are not finite."""
        for name, value in (("y", y), ("z", z)):
            if not bool((value.abs() < _LIMIT).all()):
                raise ValueError(f"the latents {name} hold NaN, infinity or absurd values")
        return cls(torch.round(y).to(torch.int32), torch.round(z).to(torch.int32))

    def crc32(self, i: int) -> int:
        """CRC-32 of picture i: z, then y, as little-endian int32 by channel, row, column."""
        z, y = (part[i].cpu().contiguous().numpy().astype("<i4") for part in (self.z, self.y))
        return zlib.crc32(y.tobytes(), zlib.crc32(z.tobytes()))


class _Writer:
    """The encoder's end of the loop: it knows the integers and writes them."""

    def __init__(self, z: Tensor, y: Tensor):
        self._parts = iter((z, *y))
        self.coder = rans.Encoder()

    def code(self, centers: Tensor | int, indexes: Tensor, tables: rans.Tables) -> Tensor:
        symbols = next(self._parts)
        self.coder.push(symbols - centers, indexes, tables)
        return symbols


class _Reader:
    """The decoder's end of the loop: it reads the integers."""

    def __init__(self, stream: bytes):
        self.coder = rans.Decoder(stream)

    def code(self, centers: Tensor | int, indexes: Tensor, tables: rans.Tables) -> Tensor:
        return self.coder.pull(indexes, tables) + centers


@torch.no_grad()
def encode(model: FLIC, latents: Latents) -> list[bytes]:
    """One stream for each picture."""
    streams = []
    for y, z in zip(latents.y.cpu(), latents.z.cpu(), strict=True):
        writer = _Writer(z, y.split(model.config.slice_channels))
        _slice_loop(model, writer, tuple(z.shape[1:]))
        streams.append(writer.coder.finish())
    return streams


@torch.no_grad()
def decode(model: FLIC, streams: Sequence[bytes], size: tuple[int, int]) -> tuple[Latents, Tensor]:
    """The integers of streams of pictures of one size, and g_s's input.

    Args:
        size: height and width of the pictures.

    Returns:
        latents, and y_hat [B, M, h, w] = y + 0.5 tanh(lrp) on the model's device.

    Raises:
        rans.CorruptStream: a stream that is damaged or was made by other weights, as far as the
            coder can tell; a checksum over the latents tells for certain.
    """
    shape = tuple(-(-side // STRIDE) * (STRIDE // 64) for side in size)
    coded, corrected = [], []
    for stream in streams:
        reader = _Reader(stream)
        z, y, lrp = _slice_loop(model, reader, shape)
        reader.coder.close()
        coded.append((y, z))
        corrected.append(y.to(lrp.device) + 0.5 * torch.tanh(lrp))
    latents = Latents(*(torch.stack(parts) for parts in zip(*coded, strict=True)))
    return latents, torch.stack(corrected)


def _slice_loop(
    model: FLIC, end: _Writer | _Reader, shape: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Code one picture whose z is [N, *shape]; gives z, y (int32) and lrp (float32)."""
    medians = model.z_medians()
    tables = z_tables(model)
    channels = torch.arange(model.config.hyper, dtype=torch.int32)
    indexes = channels[:, None, None].expand(-1, *shape).contiguous()
    z = end.code(0, indexes, tables)
    z_hat = z.to(medians.device, torch.float32)[None] + medians
    state = model.tca.begin(model.hyper_features(z_hat))
    tables = rans.gaussian_tables()
    slices, corrections, previous = [], [], None
    for i in range(model.config.slices):
        means, scales, lrp = model.tca.next_slice(state, i, previous)
        indexes, centers = rans.gaussian_indexes(means[0].cpu(), scales[0].cpu(), tables)
        y = end.code(centers, indexes, tables)
        previous = y.to(medians.device, torch.float32)[None]
        slices.append(y)
        corrections.append(lrp[0])
    return z, torch.cat(slices), torch.cat(corrections)


def z_tables(model: FLIC) -> rans.Tables:
    """The integer tables of z's channels; kept until the prior's parameters change."""
    prior = model.entropy_bottleneck
    parameters = (prior.quantiles, *prior.matrices, *prior.biases, *prior.factors)
    key = tuple((id(p), p._version, p.data_ptr()) for p in parameters)
    kept = _z_tables.get(model)
    if kept is None or kept[0] != key:
        arrays = [p.detach().cpu().to(torch.float64).numpy() for p in parameters]
        depth = len(prior.matrices)
        rows, firsts = zprior.probabilities(
            arrays[0][:, 0, 1],
            arrays[1 : 1 + depth],
            arrays[1 + depth : 1 + 2 * depth],
            arrays[1 + 2 * depth :],
        )
        kept = _z_tables[model] = (key, rans.Tables.from_pmfs(rows, firsts))
    return kept[1]
