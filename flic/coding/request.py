"""What a coder (native_coder.py, array_coder.py) is asked to do. Needs no torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np

Progress = Callable[[int, int], None]
"""Told how many of how many parts are done: a part is a tile analysed, coded, decoded or drawn."""


def silent(done: int, parts: int) -> None:
    """A progress that nobody is told of."""


class Request(NamedTuple):
    """A picture to be coded.

    pixels: uint8 [H, W, 3]. gray: its three channels are one. tile: the tiles' side, None: whole.
    dtype: in which g_a and g_s compute. again: whether it will be coded more than once. iterations:
    by which each tile's latents are refined first.
    """

    pixels: np.ndarray
    gray: bool
    tile: int | None
    dtype: str = "float32"
    again: bool = False
    iterations: int = 0
