"""`flic.encode` and `flic.decode`."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Any

from ..config import check_dtype
from ..format import container
from ..model import library
from ..pictures import images
from .codec import Codec, Crop
from .opening import open_codec
from .rate import Rate

if TYPE_CHECKING:
    from PIL import Image

    from ..model.network import FLIC


def encode(
    image: Any,
    model: FLIC | str | os.PathLike | None = None,
    *,
    quality: float | None = None,
    step: float | None = None,
    target_bpp: float | None = None,
    target_size: int | None = None,
    target_psnr: float | None = None,
    strip: bool = False,
    tile: int | str = "auto",
    effort: int = 0,
    dtype: str = "float32",
) -> bytes:
    """Code a picture as a .flic file.

    image: a path, a file's bytes, a file object, a PIL image, a uint8 array [H, W, 3] or a float
    tensor [3, H, W] in [0, 1]. model: a FLIC, a name or a checkpoint's path; default: the built-in
    default.
    One of these chooses the rate, by the quantisation step (docs/format.md); without, it is that of
    step 1. quality: 0 to 100, for models that say which steps these are. step: 1/64 to 64, greater
    for smaller files. target_bpp, target_size, target_psnr: bits a pixel, bytes at most or dB (RGB)
    that the file is to have: the picture is analysed once, and coded until a step is found that
    comes near; where none does, the nearest is taken, with a RuntimeWarning.
    strip: drop ICC profile and EXIF. tile: "none" codes the picture whole, with memory
    that grows with its area; a multiple of 128 codes it in tiles of so many pixels a side, with
    memory for one of them at a time; "auto" takes tiles of 1024 for pictures of more than 2^22
    pixels. effort: 0 to 9; from 1 on the picture's latents are refined by gradients
    (docs/quickstart.md), in seconds to minutes, with torch. dtype: "float32", or "bfloat16" for the
    transforms: faster, a little less exact.
    Raises FlicError: PictureError, OptionError, ModelNotFoundError, CheckpointError, DeviceError.
    """
    rate = Rate(quality, step, target_bpp, target_size, target_psnr)
    picture = images.read(image, strip=strip)
    codec = _codec(model, dtype, gradients=effort != 0)
    encoded = codec.encode_at(rate, picture, tile=tile, effort=effort)
    if missed := rate.missed(encoded.reached):
        warnings.warn(missed, RuntimeWarning, stacklevel=2)
    return encoded.data


def decode(
    data: Any,
    model: FLIC | str | os.PathLike | None = None,
    *,
    crop: Crop | None = None,
    dtype: str = "float32",
) -> Image.Image:
    """The picture of a .flic file, as a PIL image (L, LA, RGB or RGBA).

    data: the file's bytes, its path, or a binary file object. model: as for `encode`; default: the
    one with the file's fingerprint, among the built-in models and those in the user's model folder.
    crop: (x, y, width, height) in pixels: that region alone, the same pixels as in the whole
    picture; of a file with tiles only those are decoded that it needs. dtype: as for `encode`, and
    not necessarily the encoder's. The image's `info` has the ICC profile and EXIF.
    Raises FlicError: FormatError, OptionError, ModelNotFoundError, ModelMismatchError,
    StreamMismatch, CheckpointError, DeviceError.
    """
    file = container.unpack(container.read(data))
    if model is None:
        model = library.find(file.fingerprint.hex()).path
    return _codec(model, dtype).decode_picture(file, crop=crop).to_pil()


def _codec(model: FLIC | str | os.PathLike | None, dtype: str, *, gradients: bool = False) -> Codec:
    if model is None or isinstance(model, (str, os.PathLike)):
        return open_codec(model, dtype, gradients=gradients)
    check_dtype(dtype)
    return Codec(model, dtype)
