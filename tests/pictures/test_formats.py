"""The formats that are read besides the common ones, those written, and what is not kept."""

import io
import sys
import types

import numpy as np
import pytest
from pictures import by_257, saved
from PIL import Image, PngImagePlugin, features

from flic.errors import OptionError, PictureError
from flic.output import wrote_picture
from flic.pictures import formats, images

RNG = np.random.default_rng(3)
RGB = RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8)
GRAY = RGB[..., 0]
WIDE = RNG.integers(0, 65536, (6, 8, 3), dtype=np.uint16)


@pytest.mark.parametrize(
    ("name", "options"),
    [("BMP", {}), ("PPM", {}), ("JPEG2000", {}), ("AVIF", {"quality": 95}), ("GIF", {})],
)
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_read(tmp_path, name, options, mode):
    data = saved(Image.fromarray(RGB).convert(mode), name, **options)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert np.array_equal(images.read(data).pixels, expected)
    path = tmp_path / "without_suffix"
    path.write_bytes(data)
    assert formats.is_picture(path)
    with pytest.raises(PictureError, match="broken|not a PNG"):
        images.read(data[: len(data) // 2])


def test_high_colour_bmp():
    header = b"BM" + (54 + 4).to_bytes(4, "little") + bytes(4) + (54).to_bytes(4, "little")
    size = b"".join(n.to_bytes(4, "little") for n in (40, 1, 1))
    body = b"\1\0\x10\0" + bytes(24) + (31 << 10).to_bytes(2, "little") + bytes(2)
    assert images.read(header + size + body).pixels.tolist() == [[[255, 0, 0]]]


def test_transparent_gif():
    picture = images.read(saved(Image.fromarray(GRAY), "GIF", transparency=int(GRAY[0, 0])))
    assert np.array_equal(picture.alpha, np.where(GRAY[0, 0] == GRAY, 0, 255))


def test_16_bit_ppm_and_jpeg_2000():
    gray = b"P5 8 6 65535\n" + WIDE[..., 0].astype(">u2").tobytes()
    for data in (gray, saved(Image.fromarray(WIDE[..., 0]), "JPEG2000")):
        picture = images.read(data)
        assert np.array_equal(picture.pixels[..., 0], by_257(WIDE[..., 0])) and picture.gray
        assert picture.dropped == ("16-bit samples",)
    colour = images.read(b"P6 8 6 65535\n" + WIDE.astype(">u2").tobytes())
    assert np.array_equal(colour.pixels, by_257(WIDE))
    assert colour.dropped == ("16-bit samples",)


def test_what_is_not_kept_is_said():
    text = PngImagePlugin.PngInfo()
    text.add_text("Title", "a picture")
    text.add_itxt("XML:com.adobe.xmp", "<x:xmpmeta/>")
    png = saved(Image.fromarray(RGB), "PNG", pnginfo=text)
    assert images.read(png).dropped == ("text", "XMP")
    assert images.read(png, strip=True).dropped == ()
    jpeg = saved(Image.fromarray(RGB), "JPEG", comment=b"hello", xmp=b"<x:xmpmeta/>")
    assert images.read(jpeg).dropped == ("XMP", "comment")
    first = Image.fromarray(RGB)
    pair = saved(first, "MPO", save_all=True, append_images=[Image.new("RGB", (9, 9))])
    assert images.read(pair).dropped == ("further pictures",)
    for suffix in (".png", ".jpg", ".webp", ".tiff", ".avif", ".bmp"):
        assert images.read(images.to_bytes(first, suffix)).dropped == ()  # not even our own mark


HEIC = (24).to_bytes(4) + b"ftypheic\0\0\0\0mif1heic" + bytes(100)


def test_heic_without_pillow_heif(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(PictureError, match="pip install pillow-heif"):
        images.read(HEIC)
    (tmp_path / "phone").write_bytes(HEIC)
    assert formats.is_picture(tmp_path / "phone") and ".heic" in images.SUFFIXES


def test_heic_is_opened_by_pillow_heif(monkeypatch):
    def opened(file, name):
        image = Image.fromarray(RGB)
        image.fp, image.format = file, "HEIF"
        return image

    def register():
        Image.register_open("HEIF", opened, lambda head: head[4:8] == b"ftyp")

    monkeypatch.setitem(
        sys.modules, "pillow_heif", types.SimpleNamespace(register_heif_opener=register)
    )
    monkeypatch.setattr(Image, "OPEN", dict(Image.OPEN))
    monkeypatch.setattr(Image, "ID", list(Image.ID))
    assert np.array_equal(images.read(HEIC).pixels, RGB)


def test_real_heic():
    heif = pytest.importorskip("pillow_heif")
    out = io.BytesIO()
    heif.from_pillow(Image.fromarray(RGB).resize((64, 48))).save(out, quality=90)
    assert images.read(out.getvalue()).pixels.shape == (48, 64, 3)


@pytest.mark.parametrize("name", ["AVIF", "JPEG2000"])
def test_a_pillow_built_without_a_format(monkeypatch, name):
    data = saved(Image.fromarray(RGB), name)
    monkeypatch.setattr(features, "check", lambda feature: False)
    monkeypatch.setattr(Image, "open", lambda *_, **__: (_ for _ in ()).throw(images_error()))
    with pytest.raises(PictureError, match=f"Pillow reads no {name}: pip install"):
        images.read(data)
    if name == "AVIF":
        with pytest.raises(PictureError, match="Pillow writes no AVIF"):
            formats.save_options(".avif")


def images_error() -> Exception:
    from PIL import UnidentifiedImageError

    return UnidentifiedImageError("cannot identify image file")


@pytest.mark.parametrize("suffix", [".avif", ".bmp"])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_written(tmp_path, suffix, mode):
    image = Image.fromarray(RGB).convert(mode)
    if mode == "RGBA":
        image.putalpha(Image.fromarray(GRAY))
    if (suffix, mode) == (".bmp", "RGBA"):
        with pytest.raises(PictureError, match="transparency"):
            images.to_bytes(image, suffix)
        return
    image.info["exif"] = b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"
    path = tmp_path / f"a{suffix}"
    path.write_bytes(images.to_bytes(image, suffix))
    back = Image.open(path)
    assert back.size == image.size and wrote_picture(path)
    error = np.asarray(back.convert("RGB"), float) - np.asarray(image.convert("RGB"))
    assert np.abs(error).mean() < (12 if suffix == ".avif" else 1e-9)
    assert formats.not_written(image, suffix) == (["EXIF"] if suffix == ".bmp" else [])


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".avif"])
def test_quality(suffix):
    image = Image.fromarray(RGB).resize((64, 64))
    sizes = [len(images.to_bytes(image, suffix, quality)) for quality in (10, 50, 90)]
    assert sizes == sorted(sizes) and sizes[0] < sizes[2]
    for lossless in (".png", ".tiff", ".bmp"):
        with pytest.raises(OptionError, match="a quality is for"):
            images.to_bytes(image, lossless, 50)
