"""Files that are no pictures, damaged ones, and kinds that are refused: one clear error each."""

import struct

import numpy as np
import pytest
from pictures import png, png_chunk, saved
from PIL import Image

from flic.errors import PictureError
from flic.pictures import images

RNG = np.random.default_rng(2)
RGB = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)
GRAY = RGB[..., 0]


def animated(name: str) -> bytes:
    frames = [Image.fromarray(RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8)) for _ in range(3)]
    return saved(frames[0], name, save_all=True, append_images=frames[1:])


def huge_png(width: int, height: int) -> bytes:
    data = png(RGB, 8, 2)
    header = struct.pack(">II", width, height) + data[24:29]
    return data[:8] + png_chunk(b"IHDR", header) + data[33:]


REFUSED = {
    "empty": (b"", "empty"),
    "text": (b"This is not a picture.\n" * 9, "not a PNG, JPEG, WebP, TIFF"),
    "animated GIF": (animated("GIF"), "animated"),
    "animated PNG": (animated("PNG"), "animated"),
    "animated WebP": (animated("WEBP"), "animated"),
    "pages": (animated("TIFF"), "3 pages"),
    "wide": (huge_png(70_000, 4), "too large"),
    "bomb": (huge_png(10_000, 10_000), "megapixels"),
    "large bomb": (huge_png(60_000, 60_000), "too large"),
    "no width": (huge_png(0, 5), "PNG|pixels|broken"),
    "float": (saved(Image.fromarray(GRAY.astype(np.float32)), "TIFF"), "mode F"),
    "32 bit": (saved(Image.fromarray(GRAY.astype(np.int32)), "TIFF"), "mode I"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(tmp_path, name):
    data, message = REFUSED[name]
    with pytest.raises(PictureError, match=message) as caught:
        images.read(data)
    assert "\n" not in str(caught.value)
    path = tmp_path / "picture.png"
    path.write_bytes(data)
    with pytest.raises(PictureError, match="picture.png"):
        images.read(path)


@pytest.mark.parametrize("name", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_truncated_files_are_refused_at_every_length(name):
    pixels = np.repeat(np.repeat(RGB, 4, 0), 4, 1)
    data = saved(Image.fromarray(pixels), name, **({"lossless": True} if name == "WEBP" else {}))
    whole = images.read(data).pixels
    for length in range(0, len(data), 1 if len(data) < 500 else 7):
        try:
            picture = images.read(data[:length])
        except PictureError:
            continue
        # a tail that carries no pixels may be missing, pixels may not
        assert length > len(data) - 300 and np.array_equal(picture.pixels, whole), length


def test_flipped_bits_in_a_png_never_give_another_picture():
    data = png(RGB, 8, 2)
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << (bit % 8)
        try:
            picture = images.read(damaged)
        except PictureError:
            continue
        assert np.array_equal(picture.pixels, RGB), bit


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(PictureError, match="none.png: No such file"):
        images.read(tmp_path / "none.png")
    with pytest.raises(PictureError, match="folder"):
        images.read(tmp_path)
