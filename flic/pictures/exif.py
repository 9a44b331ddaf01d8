"""EXIF: taken out of a picture, its orientation applied to the pixels and reset."""

import struct

from PIL import ExifTags, Image

MARK = b"Exif\0\0"
"""What stands before EXIF in a JPEG, and in Pillow's `info`."""
ORIENTATION = 0x0112

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TIFF_TAGS = (
    ExifTags.Base.ImageDescription,
    ExifTags.Base.Make,
    ExifTags.Base.Model,
    ExifTags.Base.Software,
    ExifTags.Base.DateTime,
    ExifTags.Base.Artist,
    ExifTags.Base.Copyright,
    ExifTags.IFD.Exif,
    ExifTags.IFD.GPSInfo,
)


def orientation(image: Image.Image) -> int:
    """1..8 as EXIF (or XMP) says; 1 where nothing readable says so."""
    try:
        return image.getexif().get(ORIENTATION, 1)
    except Exception:  # Pillow raises many types on damaged EXIF, which must not stop a picture
        return 1


def orient(image: Image.Image, how: int) -> Image.Image:
    """Turned as EXIF orientation 1..8 asks; other values do nothing."""
    return image.transpose(_TURNS[how]) if how in _TURNS else image


def extract(image: Image.Image) -> bytes | None:
    """EXIF from its TIFF header on, orientation reset to 1; None where there is none.

    Kept byte for byte but for the orientation, so that what a camera's maker notes point to stays
    in place. A TIFF file's own tags are written anew: those that describe the photograph.
    """
    data = image.info.get("exif")
    if image.format == "TIFF":
        return _from_tiff(image)
    if not data and "Raw profile type exif" in image.info:
        data = image.getexif().tobytes()
    if not isinstance(data, bytes) or not data:
        return None
    while data.startswith(MARK):
        data = data[len(MARK) :]
    return _reset_orientation(data)


def _from_tiff(image: Image.Image) -> bytes | None:
    tags = image.getexif()
    kept = Image.Exif()
    for tag in _TIFF_TAGS:
        if tag not in tags:
            continue
        value = tags.get_ifd(tag) if tag in iter(ExifTags.IFD) else tags[tag]
        if value:
            kept[tag] = value
    return kept.tobytes()[len(MARK) :] if len(kept) else None


def _reset_orientation(data: bytes) -> bytes | None:
    """None where the data is no EXIF at all."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    if order is None or len(data) < 10:
        return None
    (start,) = struct.unpack_from(order + "I", data, 4)
    if start + 2 > len(data):
        return None
    (count,) = struct.unpack_from(order + "H", data, start)
    for position in range(start + 2, min(start + 2 + 12 * count, len(data) - 11), 12):
        tag, kind = struct.unpack_from(order + "HH", data, position)
        if tag == ORIENTATION and kind == 3:
            patched = bytearray(data)
            struct.pack_into(order + "H", patched, position + 8, 1)
            return bytes(patched)
    return data
