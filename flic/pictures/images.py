"""Reading pictures into 8-bit RGB with what belongs to them, and giving them back.

Pillow reads them (formats.py). What it would get wrong is handled here: 16-bit colour
(sixteen_bit.py), transparent gray levels of few bits, damaged PNG data, pages and animations.
"""

from __future__ import annotations

import functools
import io
import os
import sys
import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageChops

from ..errors import PictureError
from ..format.container import MAX_METADATA, check_size
from . import exif as exif_data
from . import mark, sixteen_bit
from .formats import FORMATS, SUFFIXES, open_image, save_options, to_bytes

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "FORMATS",
    "MAX_FILE",
    "SUFFIXES",
    "Picture",
    "alpha_from_png",
    "alpha_to_png",
    "read",
    "save_options",
    "to_bytes",
]

MAX_FILE = 1 << 30
"""Largest picture file that is read, in bytes: 1 GiB."""

_FIRST_OF_SEVERAL = ("MPO", "HEIF")
_GRAY_MODES = ("1", "L", "LA", "La", "I;16", "I;16L", "I;16B", "I;16N")
_NO_TEXTS = ("XML:com.adobe.xmp", *(f"Raw profile type {kind}" for kind in ("exif", "xmp", "icc")))
"""PNG texts that are other things in disguise."""
_ENCODERS = (b"Created by OpenJPEG", b"Kakadu")
"""Begins of comments that only name the program that wrote a JPEG 2000 file."""
_COLOUR_MODES = ("P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr")


@dataclass
class Picture:
    """A picture as flic codes it.

    image: of mode RGB, or L where it had one channel. alpha: of mode L, or None where every pixel
    is opaque.
    icc: the colour profile; exif: from its TIFF header on, orientation reset. Bytes or None.
    dropped: what the source had besides and is not kept, in words.
    """

    image: Image.Image
    alpha: Image.Image | None = None
    icc: bytes | None = None
    exif: bytes | None = None
    dropped: tuple[str, ...] = ()

    @classmethod
    def from_array(cls, pixels: np.ndarray, alpha: np.ndarray | None = None) -> Picture:
        """Of uint8 [H, W, 3], or [H, W] for a gray one; alpha: uint8 [H, W]."""
        return cls(Image.fromarray(pixels), None if alpha is None else Image.fromarray(alpha))

    @property
    def width(self) -> int:
        return self.image.width

    @property
    def height(self) -> int:
        return self.image.height

    @property
    def gray(self) -> bool:
        """Whether it has one channel."""
        return self.image.mode == "L"

    @cached_property
    def pixels(self) -> np.ndarray:
        """uint8 [H, W, 3], of gray ones, too; takes NumPy."""
        import numpy as np

        return np.array(self.image.convert("RGB") if self.gray else self.image)

    def to_pil(self) -> Image.Image:
        """As a PIL image: mode L, LA, RGB or RGBA; profile and EXIF in its `info`."""
        image = self.image.copy()
        if self.alpha is not None:
            image.putalpha(self.alpha)
        if self.icc is not None:
            image.info["icc_profile"] = self.icc
        if self.exif is not None:
            image.info["exif"] = exif_data.MARK + self.exif
        return image


def read(source: Any, *, strip: bool = False) -> Picture:
    """Read a picture.

    source: a path, a file's bytes, a binary file object, a PIL image, a uint8 array [H, W, 3] or a
    float torch tensor [3, H, W] in [0, 1] (rounded to 8 bits).
    strip: drop the ICC profile and EXIF.

    16-bit samples are divided by 257 and rounded; gray stays one channel unless its profile is one
    of RGB; palettes are looked up; CMYK is converted to sRGB, through its profile where it has one;
    the EXIF orientation is applied and reset; an alpha channel is kept unless it is opaque
    everywhere.
    Raises PictureError with one clear line.
    """
    if isinstance(source, (str, os.PathLike)):
        try:
            return _from_bytes(_read_path(Path(source)), strip)
        except PictureError as error:
            raise PictureError(f"{os.fspath(source)}: {error}") from error
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _from_bytes(bytes(source), strip)
    if isinstance(source, Image.Image):
        return _from_pil(source, strip)
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    if numpy is not None and isinstance(source, numpy.ndarray):
        return _from_array(source)
    if torch is not None and isinstance(source, torch.Tensor):
        return _from_tensor(source)
    if hasattr(source, "read"):
        return _from_bytes(source.read(MAX_FILE + 1), strip)
    raise PictureError(f"cannot read a picture from {type(source).__name__}")


def _read_path(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise PictureError("is a folder, not a picture")
        with path.open("rb") as file:
            return file.read(MAX_FILE + 1)
    except OSError as error:
        raise PictureError(error.strerror or str(error)) from error


def _from_array(array: np.ndarray) -> Picture:
    if array.dtype != "uint8" or array.ndim != 3 or array.shape[2] != 3:
        raise PictureError(
            f"an array must be uint8 [H, W, 3], not {array.dtype} {list(array.shape)}"
        )
    check_size(array.shape[1], array.shape[0], PictureError)
    return Picture.from_array(array)


def _from_tensor(tensor: Any) -> Picture:
    if tensor.dim() != 3 or tensor.shape[0] != 3 or not tensor.is_floating_point():
        raise PictureError(
            f"a tensor must be floating point [3, H, W], not {tensor.dtype} {list(tensor.shape)}"
        )
    check_size(tensor.shape[2], tensor.shape[1], PictureError)
    values = tensor.detach().float().cpu().permute(1, 2, 0)
    if not (values.min() >= 0 and values.max() <= 1):
        raise PictureError("a tensor's values must lie in [0, 1]")
    return Picture.from_array((values * 255).round().byte().contiguous().numpy())


def _from_bytes(data: bytes, strip: bool) -> Picture:
    if not data:
        raise PictureError("the file is empty")
    if len(data) > MAX_FILE:
        raise PictureError(f"the file is too large: at most {MAX_FILE >> 20} MiB")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return _convert(_open(data), data, strip)
        except Image.DecompressionBombError as error:
            raise PictureError("the picture is too large") from error
        except (MemoryError, PictureError):
            raise
        except Exception as error:  # Pillow raises many types on damaged files
            reason = " ".join(str(error).split()) or type(error).__name__
            raise PictureError(f"the picture is broken: {reason}") from error


def _open(data: bytes) -> Image.Image:
    """Open, and refuse what must not be decoded; pixels are not read yet."""
    image = open_image(data)
    check_size(*image.size, PictureError)
    frames = getattr(image, "n_frames", 1)
    # An MPO is a JPEG with further pictures behind the first (depth maps, stereo pairs, previews);
    # in a HEIF file, too, the first is the one to be shown.
    if frames > 1 and image.format == "TIFF":
        raise PictureError(f"the file has {frames} pages; only single pictures are coded")
    if frames > 1 and image.format not in _FIRST_OF_SEVERAL:
        raise PictureError(f"the picture is animated ({frames} frames)")
    return _open_png(data) if image.format == "PNG" else image


def _open_png(data: bytes) -> Image.Image:
    """Open a PNG whose checksums are right: Pillow skips those of the pixels when it decodes."""
    Image.open(io.BytesIO(data), formats=("PNG",)).verify()
    return Image.open(io.BytesIO(data), formats=("PNG",))


def _from_pil(image: Image.Image, strip: bool) -> Picture:
    check_size(*image.size, PictureError)
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format not in _FIRST_OF_SEVERAL:
        raise PictureError(f"the picture is animated or has pages ({frames} frames)")
    try:
        image.load()
        return _convert(image, None, strip)
    except (MemoryError, PictureError):
        raise
    except Exception as error:  # the caller's image may be a damaged file, not read before
        raise PictureError(f"the picture is broken: {error}") from error


def _convert(image: Image.Image, data: bytes | None, strip: bool) -> Picture:
    sixteen_bits = image.mode == "I" and image.format in ("PNG", "PPM")  # PNG: up to Pillow 10
    if image.mode not in _GRAY_MODES + _COLOUR_MODES and not sixteen_bits:
        raise PictureError(f"pictures of mode {image.mode} (32 bit, float, Lab) are not supported")
    samples = sixteen_bit.read(image, data) if data is not None else None
    wide = sixteen_bit.is_wide_ppm(image)
    image.load()  # EXIF may follow a PNG's pixels
    icc = image.info.get("icc_profile") or None
    if samples is None and image.mode.startswith("I"):
        samples = sixteen_bit.gray(image)
    shown = _eight_bit(image) if samples is None else samples.to_8_bit()
    profile = icc
    if image.mode == "CMYK":
        shown, icc, profile = _cmyk_to_rgb(shown, icc), None, None
    gray = shown.mode in ("L", "LA")
    plain, alpha = _split_alpha(shown)
    key = image.info.get("transparency")
    if key is not None and image.format == "PNG" and image.mode not in ("P", "PA"):
        alpha = _key_alpha(plain if samples is None else samples, key, image.mode, data)

    turn = exif_data.orientation(image)
    plain = exif_data.orient(plain, turn)
    alpha = None if alpha is None else exif_data.orient(alpha, turn)
    if alpha is not None and alpha.getextrema() == (255, 255):
        alpha = None

    exif = None if strip else exif_data.extract(image)
    icc, gray = (None, gray) if strip else _fitting_profile(icc, gray)
    for name, value in (("ICC profile", icc), ("EXIF", exif)):
        if value is not None and len(value) > MAX_METADATA:
            raise PictureError(f"its {name} has {len(value)} bytes, more than {MAX_METADATA}")
    dropped = ["16-bit samples"] if wide or samples is not None else []
    if not strip:
        dropped += _not_kept(image) + (["ICC profile"] if profile and icc is None else [])
    return Picture(_bare(plain, "L" if gray else "RGB"), alpha, icc, exif, tuple(dropped))


def _bare(image: Image.Image, mode: str) -> Image.Image:
    """A copy of its pixels alone, in this mode."""
    bare = Image.new(mode, image.size)
    bare.paste(image)
    return bare


def _not_kept(image: Image.Image) -> list[str]:
    """What a read picture's file says and shows besides pixels, profile and EXIF."""
    own = mark.TEXT.decode()
    texts = {
        key: str(value)
        for key, value in getattr(image, "text", {}).items()
        if key not in _NO_TEXTS and not str(value).startswith(own)
    }
    comment = image.info.get("comment", b"")
    comment = comment.encode() if isinstance(comment, str) else bytes(comment)
    found = {
        "text": bool(texts) and image.format == "PNG",
        "XMP": bool({"xmp", "XML:com.adobe.xmp", "Raw profile type xmp"} & set(image.info)),
        "comment": bool(comment) and not comment.startswith((mark.TEXT, *_ENCODERS)),
        "further pictures": getattr(image, "n_frames", 1) > 1,
    }
    return [what for what, is_there in found.items() if is_there]


def _eight_bit(image: Image.Image) -> Image.Image:
    """Of mode L, LA, RGB, RGBA or CMYK."""
    if image.mode == "1":
        return image.convert("L")
    if image.mode == "P":
        see_through = "transparency" in image.info or image.palette.mode == "RGBA"
        return image.convert("RGBA" if see_through else "RGB")
    if image.mode in ("PA", "RGBa"):
        return image.convert("RGBA")
    if image.mode == "La":
        return image.convert("LA")
    if image.mode in ("RGBX", "YCbCr"):
        return image.convert("RGB")
    return image


def _split_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    if not image.mode.endswith("A"):
        return image, None
    *planes, alpha = image.split()
    return (planes[0] if len(planes) == 1 else Image.merge("RGB", planes)), alpha


def _key_alpha(
    pixels: Image.Image | sixteen_bit.Samples, key: Any, mode: str, data: bytes | None
) -> Image.Image:
    """Alpha of a PNG that names one gray level or colour as transparent.

    Pillow gives the level as it stands in the file, but pixels of 2 or 4 bits scaled to 0..255; of
    1 bit, the level's scale depends on Pillow's version.
    """
    if mode == "1":
        key = 255 if key else 0
    if mode == "L" and data is not None:
        key = key * 255 // ((1 << data[24]) - 1)
    levels = key if isinstance(key, tuple) else (key,)
    if isinstance(pixels, sixteen_bit.Samples):
        planes = [plane for part in pixels for plane in part.split()]
        levels = (*(level >> 8 for level in levels), *(level & 255 for level in levels))
    else:
        planes = pixels.split()
    different = (
        plane.point([0 if value == level else 255 for value in range(256)])
        for plane, level in zip(planes, levels, strict=True)
    )
    return functools.reduce(ImageChops.lighter, different)


def _cmyk_to_rgb(image: Image.Image, icc: bytes | None) -> Image.Image:
    if icc:
        from PIL import ImageCms

        try:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
            return ImageCms.profileToProfile(
                image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB"
            )
        except (ImageCms.PyCMSError, OSError):
            pass  # a broken profile: the plain formula is what a viewer would use
    return image.convert("RGB")


def _fitting_profile(icc: bytes | None, gray: bool) -> tuple[bytes | None, bool]:
    """The profile if it describes these pixels, and whether they stay gray."""
    space = icc[16:20] if icc else b""
    if space == b"GRAY" and gray:
        return icc, True
    if space == b"RGB ":
        return icc, False
    return None, gray


def alpha_to_png(alpha: Image.Image) -> bytes:
    """A picture of mode L as a gray PNG file."""
    out = io.BytesIO()
    alpha.save(out, "PNG", optimize=True)
    return out.getvalue()


def alpha_from_png(data: bytes, width: int, height: int) -> Image.Image:
    """Of mode L, from a gray 8-bit PNG file of exactly this size; raises PictureError."""
    try:
        image = _open_png(data)
        if image.size != (width, height) or image.mode != "L":
            raise PictureError("the alpha plane does not fit the picture")
        image.load()
    except PictureError:
        raise
    except Exception as error:  # Pillow raises many types on damaged files
        raise PictureError(f"the alpha plane is broken: {error}") from error
    return _bare(image, "L")
