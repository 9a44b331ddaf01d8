"""The picture formats: what is read, by name and content, and what is written, and how."""

import importlib.util
import io
import warnings
from pathlib import Path

from PIL import Image, UnidentifiedImageError, features

from ..errors import OptionError, PictureError
from . import mark

_SUFFIXES = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "AVIF": (".avif",),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "JPEG2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "HEIF": (".heic", ".heif", ".hif"),
}
SUFFIXES = frozenset(suffix for suffixes in _SUFFIXES.values() for suffix in suffixes)
"""Of the pictures that are read."""
FORMATS = tuple(
    name
    for name in _SUFFIXES
    if name != "HEIF" and (name != "AVIF" or importlib.util.find_spec("PIL.AvifImagePlugin"))
)
"""What Pillow itself reads, by its names. Pillow has AVIF from 11.3 on."""
COMMON = ".jpe .jpeg .jpg .png .tif .tiff .webp"
"""Suffixes to name where a folder has no pictures."""
WRITTEN = ".png, .jpg, .webp, .tiff, .avif or .bmp"
_LOSSY = ("JPEG", "WEBP", "AVIF")
_NO_ALPHA = {"JPEG": "JPEG", "BMP": "a BMP"}
_BUILT_IN = {"AVIF": "avif", "JPEG2000": "jpg_2000", "WEBP": "webp"}
"""Pillow's names of the libraries that it can be built without."""

_HEIF_BRANDS = frozenset(
    (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")
)
_AVIF_BRANDS = frozenset((b"avif", b"avis"))
_JPEG2000_STARTS = (b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  \r\n\x87\n")


def is_picture(path: Path) -> bool:
    """Whether a file is to be read as a picture: by its suffix, or without one by its content."""
    if path.suffix:
        return path.suffix.lower() in SUFFIXES
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if _has_brand(file.read(64), _HEIF_BRANDS):
                return True
            file.seek(0)
            Image.open(file, formats=FORMATS)
            return True
    except Exception:  # Pillow raises many types on what is no picture
        return False


def size_of(path: Path) -> tuple[int, int]:
    """A picture's height and width, from the start of its file where its format allows it.

    Raises OSError, PictureError, or what Pillow raises on what is no picture.
    """
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if _has_brand(file.read(64), _HEIF_BRANDS):
            width, height = open_image(path.read_bytes()).size
        else:
            file.seek(0)
            width, height = Image.open(file, formats=FORMATS).size
    return height, width


def open_image(data: bytes) -> Image.Image:
    """A picture's file, pixels not read yet. Raises PictureError where no reader knows it."""
    formats = FORMATS
    if _has_brand(data, _HEIF_BRANDS) and not _has_brand(data, _AVIF_BRANDS):
        formats = ("HEIF",)
        try:
            import pillow_heif
        except ImportError as error:
            raise PictureError(
                "HEIC pictures need one more package: pip install pillow-heif"
            ) from error
        pillow_heif.register_heif_opener()
    try:
        return Image.open(io.BytesIO(data), formats=formats)
    except UnidentifiedImageError as error:
        raise PictureError(_unknown(data)) from error


def _unknown(data: bytes) -> str:
    """Why a file was not opened."""
    starts = {
        "AVIF": _has_brand(data, _AVIF_BRANDS),
        "JPEG2000": data.startswith(_JPEG2000_STARTS),
        "WEBP": data[:4] == b"RIFF" and data[8:12] == b"WEBP",
    }
    for name, starts_so in starts.items():
        if starts_so and not has(name):
            return f"the installed Pillow reads no {name}: pip install --upgrade Pillow"
    return "not a PNG, JPEG, WebP, TIFF, AVIF, BMP, GIF, JPEG 2000 or PPM picture, or broken"


def has(name: str) -> bool:
    """Whether the installed Pillow was built with a format."""
    return name not in _BUILT_IN or bool(features.check(_BUILT_IN[name]))


def _has_brand(data: bytes, brands: frozenset[bytes]) -> bool:
    """Whether a file of the MP4 family says in its first box that it is one of these."""
    if data[4:8] != b"ftyp":
        return False
    box = data[8 : min(int.from_bytes(data[:4]), 256)]
    return any(box[i : i + 4] in brands for i in range(0, len(box), 4) if i != 4)


def save_options(suffix: str, quality: int | None = None) -> tuple[str, dict]:
    """Pillow's format and options for an output file's suffix.

    quality: 1..100 for JPEG, WebP and AVIF; None for 95, lossless and 90.
    Raises PictureError, OptionError.
    """
    suffix = suffix.lower()
    name = next((name for name, suffixes in _SUFFIXES.items() if suffix in suffixes), None)
    options = {
        "PNG": {"compress_level": 4},  # 2 % larger than by default, in 0.4 of the time
        "JPEG": {"quality": 95, "subsampling": 0},
        "WEBP": {"lossless": True, "exact": True},
        "TIFF": {"compression": "tiff_adobe_deflate"},
        "AVIF": {"quality": 90, "subsampling": "4:4:4"},
        "BMP": {},
    }.get(name)
    if options is None:
        raise PictureError(f"cannot write a picture as '{suffix or 'no suffix'}': use {WRITTEN}")
    if not has(name) or (name not in FORMATS):
        raise PictureError(f"the installed Pillow writes no {name}: pip install --upgrade Pillow")
    if quality is None:
        return name, options
    if name not in _LOSSY:
        raise OptionError(f"a quality is for .jpg, .webp and .avif pictures, not for {suffix}")
    return name, {"quality": quality} | (
        {} if name == "WEBP" else {"subsampling": options["subsampling"]}
    )


def check_alpha(suffix: str) -> None:
    """Raise PictureError where the format that `suffix` names cannot hold transparency."""
    name, _ = save_options(suffix)
    if name in _NO_ALPHA:
        raise PictureError(
            f"{_NO_ALPHA[name]} cannot hold transparency: use .png, .webp, .tiff or .avif"
        )


def not_written(image: Image.Image, suffix: str) -> list[str]:
    """What of a picture the format that `suffix` names cannot hold."""
    if suffix.lower() != ".bmp":
        return []
    labels = {"icc_profile": "ICC profile", "exif": "EXIF"}
    return [label for key, label in labels.items() if key in image.info]


def to_bytes(image: Image.Image, suffix: str, quality: int | None = None) -> bytes:
    """The picture file that `suffix` names, with profile, EXIF and flic's mark (mark.py).

    quality: as for `save_options`. Raises PictureError, OptionError.
    """
    name, options = save_options(suffix, quality)
    if image.mode in ("LA", "RGBA"):
        check_alpha(suffix)
    for key in ("icc_profile", "exif"):
        if key in image.info and name != "BMP":
            options[key] = image.info[key]
    out = io.BytesIO()
    try:
        image.save(out, name, **options)
    except (OSError, ValueError) as error:
        raise PictureError(f"cannot write the picture as {name}: {error}") from error
    return mark.add(out.getvalue(), name)
