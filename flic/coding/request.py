"""What a coder (native_coder.py, array_coder.py) is asked to do. Needs no torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from PIL import Image


class Progress(Protocol):
    """Told how many of how many parts are done: a part is a tile analysed, coded, decoded or drawn,
    or an iteration of its refinement, which tells its cost, too: bits a pixel, with what the errors
    are worth."""

    def __call__(self, done: int, parts: int, cost: float | None = None, /) -> None: ...


def silent(done: int, parts: int, cost: float | None = None) -> None:
    """A progress that nobody is told of."""


def never() -> bool:
    """Nothing is ever enough."""
    return False


class Request(NamedTuple):
    """A picture to be coded.

    image: of mode RGB, or L. tile: the tiles' side, None: whole.
    dtype: in which g_a and g_s compute. again: whether it will be coded more than once. iterations:
    by which each tile's latents are refined first. enough: asked before each of them whether to
    leave it at what has been reached.
    """

    image: Image.Image
    tile: int | None
    dtype: str = "float32"
    again: bool = False
    iterations: int = 0
    enough: Callable[[], bool] = never
