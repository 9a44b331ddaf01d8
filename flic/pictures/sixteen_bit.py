"""16-bit samples, of which Pillow reads colour as the upper bytes only.

Its unpackers ";16B" and ";16L" take the first and the second byte of each sample. Decoding the
file once with either gives all 16 bits, from code that is well kept, with no further library.
"""

import io
import sys
from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageChops

from ..errors import PictureError

_TWO_PASS = ("RGB", "RGBA", "RGBX", "CMYK")


class Samples(NamedTuple):
    """16-bit samples as two 8-bit pictures of one mode: their upper bytes, and their lower ones."""

    upper: Image.Image
    lower: Image.Image

    def to_8_bit(self) -> Image.Image:
        """Divided by 257 and rounded: the upper byte, and one more or less where the lower one is
        at least 129 more or less."""
        up, down = (
            ImageChops.subtract(a, b).point(_from_129 * len(a.getbands()))
            for a, b in ((self.lower, self.upper), (self.upper, self.lower))
        )
        return ImageChops.subtract(ImageChops.add(self.upper, up), down)


_from_129 = [0] * 129 + [1] * 127


def gray(image: Image.Image) -> Samples:
    """Those of a picture of mode I;16 (or I, as Pillow 10 reads such PNG files)."""
    size, native = (4 if image.mode == "I" else 2), image.mode in ("I", "I;16N")
    big = image.mode == "I;16B" or (native and sys.byteorder == "big")
    data, (upper, lower) = image.tobytes(), (size - 2, size - 1) if big else (1, 0)
    samples = (Image.frombytes("L", image.size, data[first::size]) for first in (upper, lower))
    # Pillow takes TIFF's "white is zero" into account for 8 bits, not for 16
    if getattr(image, "tag_v2", {}).get(262) == 0:
        samples = map(ImageChops.invert, samples)
    return Samples(*samples)


def read(image: Image.Image, data: bytes) -> Samples | None:
    """Those of a just opened file with 16-bit colour; None for any other.

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
        planes = _decode(data, "RGBA").split()
        return Samples(*(Image.merge("LA", planes[first::2]) for first in (0, 1)))
    if base not in _TWO_PASS or order not in ("B", "L", "N"):
        raise PictureError(f"16-bit pictures of layout {rawmode} are not supported")
    passes: Sequence[Image.Image] = [_decode(data, f"{base};16{end}") for end in "BL"]
    if order == "L" or (order == "N" and sys.byteorder == "little"):
        passes = passes[::-1]
    return Samples(*(each.convert("RGB") if base == "RGBX" else each for each in passes))


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


def _decode(data: bytes, rawmode: str) -> Image.Image:
    image = Image.open(io.BytesIO(data), formats=("PNG", "TIFF"))
    image.tile = [
        tile._replace(args=rawmode if isinstance(tile.args, str) else (rawmode, *tile.args[1:]))
        for tile in image.tile
    ]
    image.load()
    return image
