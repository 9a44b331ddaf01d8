"""16-bit colour, which Pillow reads as the upper byte of each sample only.

Its unpackers ";16B" and ";16L" take the first and the second byte of each sample. Decoding the
file once with either gives all 16 bits, from code that is well kept, with no further library.
"""

import io
import sys

import numpy as np
from PIL import Image

from ..errors import PictureError

_TWO_PASS = ("RGB", "RGBA", "RGBX", "CMYK")


def to_8_bit(samples: np.ndarray) -> np.ndarray:
    """uint16 to uint8: divided by 257 and rounded."""
    return ((samples.astype(np.uint32) + 128) // 257).astype(np.uint8)


def gray(image: Image.Image) -> np.ndarray:
    """uint16 [H, W, 1] of a picture of mode I;16 (or I, as Pillow 10 reads such PNG files)."""
    samples = np.asarray(image).astype(np.uint16)[..., None]
    # Pillow takes TIFF's "white is zero" into account for 8 bits, not for 16
    tags = getattr(image, "tag_v2", {})
    return 65535 - samples if tags.get(262) == 0 else samples


def read(image: Image.Image, data: bytes) -> np.ndarray | None:
    """uint16 [H, W, C] of a just opened file with 16-bit colour; None for any other.

    image: opened by Pillow from `data`, pixels not read yet; it stays so.
    Raises PictureError for the layouts that Pillow cannot give whole.
    """
    if image.format not in ("PNG", "TIFF") or not image.tile:
        return None
    rawmode = _rawmode(image)
    if _planar(image):
        raise PictureError("16-bit TIFF with separate planes is not supported")
    if ";16" not in rawmode or image.mode.startswith("I"):
        return None
    base, _, order = rawmode.partition(";16")
    if base == "LA":
        # 2 x 16 bits are unpacked as 4 x 8, big-endian as PNG has them
        return np.ascontiguousarray(_decode(data, "RGBA")).view(">u2").astype(np.uint16)
    if base not in _TWO_PASS or order not in ("B", "L", "N"):
        raise PictureError(f"16-bit pictures of layout {rawmode} are not supported")
    big = order == "B" or (order == "N" and sys.byteorder == "big")
    first = _decode(data, base + ";16B").astype(np.uint16)
    second = _decode(data, base + ";16L").astype(np.uint16)
    samples = first << 8 | second if big else second << 8 | first
    return samples[..., :3] if base == "RGBX" else samples


def is_wide_ppm(image: Image.Image) -> bool:
    """Whether a just opened file is a PPM with 16-bit samples, which Pillow rounds to 8 itself."""
    args = image.tile[0].args if image.format == "PPM" and image.tile else ()
    return isinstance(args, tuple) and any(isinstance(arg, int) and arg > 255 for arg in args)


def _rawmode(image: Image.Image) -> str:
    args = image.tile[0].args
    rawmode = args if isinstance(args, str) else args[0]
    return rawmode if isinstance(rawmode, str) else ""


def _planar(image: Image.Image) -> bool:
    tags = getattr(image, "tag_v2", None)
    return tags is not None and tags.get(284, 1) == 2 and 16 in tags.get(258, ())


def _decode(data: bytes, rawmode: str) -> np.ndarray:
    image = Image.open(io.BytesIO(data), formats=("PNG", "TIFF"))
    image.tile = [
        tile._replace(args=rawmode if isinstance(tile.args, str) else (rawmode, *tile.args[1:]))
        for tile in image.tile
    ]
    image.load()
    return np.asarray(image)
