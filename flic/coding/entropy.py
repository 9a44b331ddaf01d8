"""Batches of pictures as tensors through the slice loop (slice_loop.py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..format.tile_grid import Margins
from . import slice_loop
from .entropy_engine import Engine
from .model_engine import engine_of
from .slice_loop import WHOLE

if TYPE_CHECKING:
    from ..model.network import FLIC


@dataclass
class Latents:
    """The integers of a batch of pictures: y int32 [B, M, h, w] and z int32 [B, N, h/4, w/4].

    step: the quantisation step, a float32, of which y counts multiples.
    """

    y: Tensor
    z: Tensor
    step: float = 1.0

    def __getitem__(self, i: int) -> slice_loop.Latents:
        """Picture i's, on the CPU."""
        return slice_loop.Latents(self.y[i].cpu().numpy(), self.z[i].cpu().numpy())

    def crc32(self, i: int) -> int:
        """CRC-32 of picture i, as `slice_loop.Latents.crc32`."""
        return self[i].crc32()


class Unrounded(NamedTuple):
    """What g_a and h_a give for a batch of pictures, z less its medians; shapes as in `Latents`."""

    y: Tensor
    z: Tensor

    def __getitem__(self, i: int) -> slice_loop.Unrounded:
        """Picture i's, on the CPU."""
        return slice_loop.Unrounded(self.y[i].cpu().numpy(), self.z[i].cpu().numpy())

    def at(self, step: float = 1.0) -> Latents:
        """The integers at a step, on the CPU; ValueError where they are not finite."""
        rounded = [self[i].at(step) for i in range(len(self.y))]
        y, z = (torch.from_numpy(np.stack(part)) for part in zip(*rounded, strict=True))
        return Latents(y, z, step)


class Coded(NamedTuple):
    """A picture, or tile, as its encoder leaves it: the stream, and g_s's input [M, h, w]."""

    stream: bytes
    y_hat: Tensor


def encode(
    model: FLIC,
    latents: Latents,
    engine: Engine | None = None,
    margins: Margins = WHOLE,
) -> list[bytes]:
    """One stream for each picture, or tile; as `code`."""
    return [coded.stream for coded in code(model, latents, engine, margins)]


def code(
    model: FLIC,
    latents: Latents,
    engine: Engine | None = None,
    margins: Margins = WHOLE,
) -> list[Coded]:
    """Each picture, or tile, as a stream and as what a decoder will give g_s, on the CPU.

    Args:
        engine: of this model, to run on another instruction set or number of threads than its own.
        margins: as for `slice_loop.code`, which says what is raised.

    Raises:
        CheckpointError: the weights cannot code.
    """
    coded, engine = [], engine or engine_of(model)
    for i in range(len(latents.y)):
        each = slice_loop.code(engine, model.config, latents[i], margins, latents.step)
        coded.append(Coded(each.stream, torch.from_numpy(each.y_hat)))
    return coded


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
        engine, margins, step: as for `code`.

    Returns:
        latents (on the CPU), and y_hat [B, M, h, w] = step (y + 0.5 tanh(lrp)) on the model's
        device.

    Raises:
        CheckpointError: the weights cannot code. What `slice_loop.decode` raises.
    """
    engine = engine or engine_of(model)
    device = next(model.parameters()).device
    decoded = [slice_loop.decode(engine, model.config, d, size, margins, step) for d in coded]
    y, z, y_hat = (
        torch.from_numpy(np.stack(part))
        for part in zip(*((*latents, y_hat) for latents, y_hat in decoded), strict=True)
    )
    return Latents(y, z, step), y_hat.to(device)
