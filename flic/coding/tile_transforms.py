"""The transforms on one tile of a large picture, with what they need of its surroundings.

Blocks at 1/2, 1/4 and 1/8 of the resolution look 16 x 16 windows far, 32, 64 and 128 pixels of the
picture. So g_s runs with 128 pixels of neighbouring latents, and what the next resolution does not
need is cut off on the way; g_a begins with 32 pixels, and on the way the border is repeated to what
the next resolution needs. Grids of windows agree with those of the whole picture. A tile that is
the whole picture has no margins, and nothing here changes a bit of it.
`python -m benches tiles` measures seams and rate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import CheckpointError
from ..format.tile_grid import COARSE, FINE, MIDDLE, Box, Margins, Tile
from . import limits
from .entropy import Unrounded

if TYPE_CHECKING:
    from ..model.network import FLIC

_STAGES = (slice(0, 4), slice(4, 7), slice(7, 10))  # of g_a and g_s, a resolution's blocks in each


@torch.no_grad()
def analyze(model: FLIC, x: Tensor, tile: Tile, dtype: torch.dtype | None = None) -> Unrounded:
    """What is to be rounded and coded for a tile.

    x: the padded picture inside `input_box`, [B, 3, H, W].
    dtype: in which g_a computes; None: the type of x.
    """
    limits.check_transform(model.config, tuple(x.shape[2:]))
    fine, middle, coarse = (model.g_a[stage] for stage in _STAGES)
    boxes = [tile.core.grown(margin, tile.bounds) for margin in (FINE, MIDDLE, COARSE)]
    features = extend(fine(x.to(dtype or x.dtype)), boxes[0].margins_to(boxes[1]), 4)
    features = extend(middle(features), boxes[1].margins_to(boxes[2]), 8)
    y = _cut(coarse(features), tile.core, boxes[2], 16).to(x.dtype)
    z = model.h_a(extend(y, tile.margins, 16)) - model.z_medians()
    return Unrounded(y, _cut(z, tile.core, tile.coded, 64))


@torch.no_grad()
def synthesize(model: FLIC, y_hat: Tensor, tile: Tile, dtype: torch.dtype | None = None) -> Tensor:
    """A tile's pixels in [0, 1], [B, 3, H, W], from y_hat inside `latent_box`, [B, M, h, w].

    dtype: in which g_s computes; None: the type of y_hat. Raises CheckpointError as
    `displayable`.
    """
    limits.check_transform(model.config, tuple(16 * side for side in y_hat.shape[2:]))
    coarse, middle, fine = (model.g_s[stage] for stage in _STAGES)
    boxes = [tile.core.grown(margin, tile.bounds) for margin in (COARSE, MIDDLE, FINE)]
    features = _cut(coarse(y_hat.to(dtype or y_hat.dtype)), boxes[1], boxes[0], 4)
    features = _cut(middle(features), boxes[2], boxes[1], 2)
    x_hat = _cut(fine(features), tile.core, boxes[2], 1).to(y_hat.dtype)
    return displayable(x_hat)


def displayable(x_hat: Tensor) -> Tensor:
    """Pixels clamped to [0, 1]; CheckpointError where one is NaN or infinity, which would turn
    black or white."""
    if not bool(torch.isfinite(x_hat).all()):
        raise CheckpointError("the model cannot draw this picture: its pixels hold NaN or infinity")
    return x_hat.clamp(0, 1)


def extend(x: Tensor, margins: Margins, scale: int) -> Tensor:
    """x [B, C, h, w], an element for scale x scale pixels, with its border repeated outwards."""
    if not any(margins):
        return x
    top, left, bottom, right = (margin // scale for margin in margins)
    x = F.pad(x, (left, right, top, bottom), mode="replicate")
    return x.contiguous(memory_format=torch.channels_last)


def _cut(x: Tensor, box: Box, outer: Box, scale: int) -> Tensor:
    """The part inside `box` of x, which covers `outer`."""
    if box == outer:
        return x
    rows, columns = box.slices(outer, scale)
    return x[:, :, rows, columns].contiguous(memory_format=torch.channels_last)
