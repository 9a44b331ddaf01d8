"""flic_encode and flic_decode: arrays to .flic files and back, as the imagecodecs library has it.

    from flic.imagecodecs import flic_check, flic_decode, flic_encode

    data = flic_encode(pixels)             # uint8 [H, W], [H, W, 2], [H, W, 3] or [H, W, 4]
    pixels = flic_decode(data)

imagecodecs is not needed; names, arguments and `out` follow its conventions, so that these two can
stand in a table of codecs beside its own.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from . import __version__
from .codec import cache
from .codec.rate import Rate
from .errors import FlicError
from .format import container
from .format.container import check_size
from .pictures.images import Picture

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from .model.network import FLIC as Model

__all__ = ["FLIC", "FlicError", "flic_check", "flic_decode", "flic_encode", "flic_version"]


class FLIC:
    """Constants of the codec."""

    available = True


def flic_version() -> str:
    """The codec and its version: "flic 0.1.0"."""
    return f"flic {__version__}"


def flic_check(data: bytes | bytearray | memoryview, /) -> bool:
    """Whether data starts as a .flic file does; no more of it is looked at."""
    return bytes(data[: len(container.MAGIC)]) == container.MAGIC


def flic_encode(
    data: ArrayLike,
    /,
    level: float | None = None,
    *,
    step: float | None = None,
    model: Model | str | os.PathLike | None = None,
    out: int | type | bytearray | memoryview | np.ndarray | None = None,
) -> bytes | bytearray | memoryview | np.ndarray:
    """A .flic file of an array.

    Args:
        data: uint8, [H, W] or [H, W, 1] gray, [H, W, 2] gray and alpha, [H, W, 3] RGB or [H, W, 4]
            RGB and alpha. Alpha is coded losslessly, and not at all where it is 255 everywhere.
        level: quality from 0 to 100, for a model that says which quantisation steps these are.
        step: in place of a level, the step itself, 1/64 to 64, for any model; greater for smaller
            files. Without both it is 1.
        model: a FLIC, a model's name or a checkpoint's path; default: the built-in default.
        out: None or bytes to get bytes, bytearray for one of these, a number of bytes that the file
            must not exceed, or a writable buffer of bytes to write into.

    Returns:
        The file; the part of `out` that holds it where that is a buffer.

    Raises:
        ValueError: not such an array; a level or step that cannot be, or both; a level of a model
            that has none.
        FlicError: the model is not there or cannot code; out is too small.
    """
    pixels = np.asarray(data)
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3):
        raise ValueError(f"data must be uint8 [H, W] or [H, W, C], not {_described(pixels)}")
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    channels = pixels.shape[2]
    if not 1 <= channels <= 4:
        raise ValueError(f"data must have 1 to 4 channels, not {channels}")
    check_size(pixels.shape[1], pixels.shape[0], ValueError)
    alpha = None
    if channels in (2, 4):
        pixels, alpha = pixels[..., :-1], np.ascontiguousarray(pixels[..., -1])
        alpha = None if bool((alpha == 255).all()) else alpha
    picture = Picture.from_array(pixels[..., 0] if channels < 3 else pixels, alpha)
    rate = Rate(quality=level, step=step)
    file = cache.for_encoding(model).encode_picture(picture, rate=rate)
    return _given(file, out)


def flic_decode(
    data: bytes | bytearray | memoryview,
    /,
    out: np.ndarray | None = None,
    *,
    model: Model | str | os.PathLike | None = None,
) -> np.ndarray:
    """The pixels of a .flic file.

    Args:
        data: the file.
        out: array to write into: uint8, C-contiguous, of the picture's shape. A file says neither
            that its array had an alpha channel of 255 everywhere nor that it was [H, W, 1], `out`
            does: where the file has no alpha, a further channel is filled with 255.
        model: as for `flic_encode`; default: the one with the file's fingerprint, among the
            built-in models and those in the user's model folder.

    Returns:
        uint8 [H, W] gray, [H, W, 2] gray and alpha, [H, W, 3] RGB or [H, W, 4] RGB and alpha, alpha
        only where the file has it; `out` where it was given.

    Raises:
        ValueError: out is not such an array.
        FlicError: damaged data, or a model that is not there.
    """
    file = container.unpack(data)
    if out is not None:
        _check_out(out, file)
    codec = cache.for_file(file.fingerprint) if model is None else cache.for_encoding(model)
    pixels = np.asarray(codec.decode_picture(file).to_pil())
    if out is None:
        return pixels.copy()  # Pillow's arrays are read-only
    pixels = pixels.reshape(file.height, file.width, -1)
    planes = out.reshape(file.height, file.width, -1)  # a view
    planes[..., : pixels.shape[2]] = pixels
    planes[..., pixels.shape[2] :] = 255
    return out


def _check_out(out: np.ndarray, file: container.Container) -> None:
    """Raise ValueError unless `out` is an array that `flic_encode` can have made the file of."""
    size, colours = (file.height, file.width), 1 if file.gray else 3
    shapes = [(*size, colours + 1)]
    if file.alpha is None:
        shapes.insert(0, (*size, colours))
        if file.gray:
            shapes.insert(0, size)
    fits = isinstance(out, np.ndarray) and out.dtype == np.uint8 and out.shape in shapes
    if not fits or not (out.flags.c_contiguous and out.flags.writeable):
        raise ValueError(
            f"out must be contiguous uint8 {' or '.join(str(list(shape)) for shape in shapes)}, "
            f"not {_described(out)}"
        )


def _described(array: object) -> str:
    if not isinstance(array, np.ndarray):
        return type(array).__name__
    contiguous = "" if array.flags.c_contiguous else ", not contiguous"
    frozen = "" if array.flags.writeable else ", read-only"
    return f"{array.dtype} {list(array.shape)}{contiguous}{frozen}"


def _given(file: bytes, out) -> bytes | bytearray | memoryview | np.ndarray:
    if out is None or out is bytes:
        return file
    if out is bytearray:
        return bytearray(file)
    size = out if isinstance(out, int) else memoryview(out).nbytes
    if len(file) > size:
        raise FlicError(f"out is too small: {size} bytes for {len(file)}")
    if isinstance(out, int):
        return file
    if isinstance(out, np.ndarray):
        if out.dtype != np.uint8 or out.ndim != 1:
            raise ValueError(f"out must be uint8 of one dimension, not {_described(out)}")
        out[: len(file)] = np.frombuffer(file, np.uint8)
        return out[: len(file)]
    view = memoryview(out).cast("B")[: len(file)]
    view[:] = file
    return view
