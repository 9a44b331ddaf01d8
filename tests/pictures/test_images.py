"""Reading and writing pictures: every kind that is accepted."""

import io
import struct

import numpy as np
import pytest
import torch
from pictures import by_257, png, png_chunk, saved, tiff
from PIL import Image, ImageCms, ImageOps

from flic.errors import PictureError
from flic.pictures import images, sixteen_bit

RNG = np.random.default_rng(2)
RGB = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)
GRAY = RGB[..., 0]
WIDE = RNG.integers(0, 65536, (5, 7, 4), dtype=np.uint16)
WIDE[0, :4, 0] = (127, 128, 384, 385)  # either side of .5 after the division by 257
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GRAY_PROFILE = SRGB[:16] + b"GRAY" + SRGB[20:]


def gray3(plane: np.ndarray) -> np.ndarray:
    return np.repeat(plane[..., None], 3, 2)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
    ],
)
def test_lossless_formats_from_every_kind_of_source(tmp_path, name, options):
    data = saved(Image.fromarray(RGB), name, **options)
    path = tmp_path / "picture"
    path.write_bytes(data)
    for source in (data, bytearray(data), io.BytesIO(data), path, str(path), Image.open(path)):
        picture = images.read(source)
        assert np.array_equal(picture.pixels, RGB)
        assert (picture.gray, picture.alpha, picture.icc, picture.exif) == (False,) + (None,) * 3
        assert (picture.width, picture.height) == (7, 5)


def test_jpeg():
    data = saved(Image.fromarray(RGB), "JPEG")
    assert np.array_equal(images.read(data).pixels, np.asarray(Image.open(io.BytesIO(data))))


def test_arrays_and_tensors():
    assert np.array_equal(images.read(RGB).pixels, RGB)
    tensor = torch.from_numpy(RGB).permute(2, 0, 1).double() / 255
    for t in (tensor, tensor.float(), tensor.float().requires_grad_()):
        assert np.array_equal(images.read(t).pixels, RGB)


@pytest.mark.parametrize(
    "source",
    [
        RGB.astype(np.float32),
        GRAY,
        RGB[..., :2],
        RGB[:0],
        RGB[:, :0],
        torch.from_numpy(RGB),
        torch.zeros(4, 5, 5),
        torch.zeros(3, 0, 5),
        torch.full((3, 5, 5), 1.01),
        torch.full((3, 5, 5), -0.1),
        torch.full((3, 5, 5), float("nan")),
        42,
        None,
        np.broadcast_to(np.uint8(0), (70_000, 1, 3)),
        np.broadcast_to(np.uint8(0), (10_000, 10_000, 3)),
    ],
)
def test_refused_arrays(source):
    with pytest.raises(PictureError):
        images.read(source)


def test_16_bits_to_8_for_every_value():
    values = np.arange(65536, dtype=np.uint16)
    samples = (values.reshape(256, 256) >> shift & 255 for shift in (8, 0))
    found = sixteen_bit.Samples(*(Image.fromarray(part.astype(np.uint8)) for part in samples))
    assert np.array_equal(np.asarray(found.to_8_bit()).ravel(), by_257(values))


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16_bit_tiff(order, deflate, channels):
    samples = WIDE[..., :channels]
    photometric, extra = (1, None) if channels == 1 else (2, 2 if channels == 4 else None)
    data = tiff(samples, photometric, order=order, deflate=deflate, extra=extra)
    picture = images.read(data)
    expected = gray3(by_257(WIDE[..., 0])) if channels == 1 else by_257(WIDE[..., :3])
    assert np.array_equal(picture.pixels, expected)
    assert picture.gray == (channels == 1)
    assert (picture.alpha is None) == (channels < 4)
    if channels == 4:
        assert np.array_equal(picture.alpha, by_257(WIDE[..., 3]))


def test_16_bit_tiff_cmyk_and_ignored_channel():
    cmyk = Image.frombytes("CMYK", (7, 5), by_257(WIDE).tobytes())
    expected = np.asarray(cmyk.convert("RGB"))
    assert np.array_equal(images.read(tiff(WIDE, 5)).pixels, expected)
    picture = images.read(tiff(WIDE, 2, extra=0))
    assert np.array_equal(picture.pixels, by_257(WIDE[..., :3])) and picture.alpha is None


def test_16_bit_tiff_white_is_zero():
    picture = images.read(tiff(WIDE[..., :1], 0))
    assert np.array_equal(picture.pixels, gray3(by_257(65535 - WIDE[..., 0])))


@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize(
    ("options", "message"), [({"planar": 2}, "planes"), ({"extra": 1}, "RGBa")]
)
def test_16_bit_tiff_layouts_that_are_refused(deflate, options, message):
    samples = WIDE if "extra" in options else WIDE[..., :3]
    with pytest.raises(PictureError, match=message):
        images.read(tiff(samples, 2, deflate=deflate, **options))


@pytest.mark.parametrize(("colour", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_16_bit_png(colour, channels):
    picture = images.read(png(WIDE[..., :channels], 16, colour))
    gray = channels < 3
    colours = gray3(by_257(WIDE[..., 0])) if gray else by_257(WIDE[..., :3])
    assert np.array_equal(picture.pixels, colours)
    assert picture.gray == gray
    if channels in (2, 4):
        assert np.array_equal(picture.alpha, by_257(WIDE[..., channels - 1]))
    else:
        assert picture.alpha is None


def test_16_bit_png_with_one_transparent_colour():
    samples = WIDE[..., :3].copy()
    samples[1, 1] = (0x1234, 0x5678, 0x9ABC)
    samples[1, 2] = (0x1234, 0x5678, 0x9ABD)  # differs in the last bit: opaque
    key = png_chunk(b"tRNS", struct.pack(">3H", 0x1234, 0x5678, 0x9ABC))
    picture = images.read(png(samples, 16, 2, key))
    assert [(r, c) for r, c in np.argwhere(np.asarray(picture.alpha) == 0)] == [(1, 1)]
    samples[..., 0].flat[:] = np.arange(35) * 300
    key = png_chunk(b"tRNS", struct.pack(">H", 600))
    picture = images.read(png(samples[..., :1], 16, 0, key))
    assert [(r, c) for r, c in np.argwhere(np.asarray(picture.alpha) == 0)] == [(0, 2)]


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_gray_png_of_few_bits_and_its_transparent_level(depth):
    levels = 1 << depth
    samples = (np.arange(35).reshape(5, 7, 1) * 7) % levels
    scaled = samples[..., 0] * 255 // (levels - 1)
    picture = images.read(png(samples, depth, 0))
    assert np.array_equal(picture.pixels, gray3(scaled)) and picture.gray
    assert picture.alpha is None
    key = samples[0, 1, 0]
    picture = images.read(png(samples, depth, 0, png_chunk(b"tRNS", bytes((0, key)))))
    assert np.array_equal(picture.alpha, np.where(samples[..., 0] == key, 0, 255))
    assert np.array_equal(picture.pixels, gray3(scaled))


def test_rgb_png_with_one_transparent_colour():
    key = png_chunk(b"tRNS", struct.pack(">3H", *RGB[3, 3]))
    picture = images.read(png(RGB, 8, 2, key))
    assert np.array_equal(picture.pixels, RGB)
    assert [(r, c) for r, c in np.argwhere(np.asarray(picture.alpha) == 0)] == [(3, 3)]


@pytest.mark.parametrize("transparency", [None, 2, bytes((255, 128, 0, 7))])
def test_palette(transparency):
    image = Image.fromarray((GRAY % 4).astype(np.uint8)).convert("P")
    palette = [10, 20, 30, 40, 50, 60, 70, 80, 90, 1, 2, 3]
    image.putpalette(palette)
    options = {} if transparency is None else {"transparency": transparency}
    picture = images.read(saved(image, "PNG", **options))
    colours = np.array(palette, np.uint8).reshape(4, 3)
    assert np.array_equal(picture.pixels, colours[GRAY % 4]) and not picture.gray
    if transparency is None:
        assert picture.alpha is None
    else:
        alphas = [255, 255, 0, 255] if transparency == 2 else list(transparency)
        assert np.array_equal(picture.alpha, np.array(alphas, np.uint8)[GRAY % 4])


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_alpha_is_kept_and_given_back(mode):
    planes = WIDE.astype(np.uint8)[..., : len(mode)]
    image = Image.frombytes(mode, (7, 5), planes.tobytes())
    picture = images.read(saved(image, "PNG"))
    assert np.array_equal(picture.alpha, planes[..., -1])
    assert picture.to_pil().mode == mode
    assert picture.to_pil().tobytes() == image.tobytes()


def test_opaque_alpha_is_no_alpha():
    image = Image.fromarray(RGB).convert("RGBA")
    assert images.read(saved(image, "PNG")).alpha is None


def test_one_bit_and_gray_modes():
    bits = Image.fromarray(GRAY).convert("1")
    picture = images.read(saved(bits, "TIFF"))
    assert picture.gray and np.array_equal(picture.pixels, gray3(np.asarray(bits) * np.uint8(255)))
    picture = images.read(Image.fromarray(WIDE[..., 0]))
    assert picture.gray and np.array_equal(picture.pixels, gray3(by_257(WIDE[..., 0])))
    assert images.read(Image.fromarray(GRAY)).to_pil().mode == "L"


def test_cmyk_with_and_without_profile():
    cmyk = Image.fromarray(RGB).convert("CMYK")
    plain = saved(cmyk, "TIFF")
    assert np.array_equal(images.read(plain).pixels, np.asarray(cmyk.convert("RGB")))
    broken = images.read(saved(cmyk, "TIFF", icc_profile=b"no profile at all" * 20))
    assert np.array_equal(broken.pixels, images.read(plain).pixels) and broken.icc is None
    jpeg = saved(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95)
    red = images.read(jpeg).pixels[8, 8]
    assert red[0] > 240 and red[1] < 15 and red[2] < 15


@pytest.mark.parametrize("orientation", range(0, 10))
@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation_is_applied_and_reset(orientation, name):
    pixels = np.repeat(np.repeat(RGB[:2, :3], 16, 0), 16, 1)
    alpha = np.arange(32 * 48, dtype=np.uint8).reshape(32, 48)
    image = Image.fromarray(pixels)
    if name in ("PNG", "WEBP"):
        image.putalpha(Image.fromarray(alpha))
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    exif[0x0112] = orientation
    options = {"lossless": True, "exact": True} if name == "WEBP" else {}
    picture = images.read(saved(image, name, exif=exif, **options))
    stored = Image.open(io.BytesIO(saved(image, name, exif=exif, **options)))
    expected = ImageOps.exif_transpose(stored)
    assert picture.to_pil().tobytes() == expected.tobytes()
    kept = picture.to_pil().getexif()
    assert kept[0x010F] == "Maker"
    assert kept.get(0x0112, 1) == 1


def test_exif_is_kept_byte_for_byte_but_for_the_orientation():
    maker_note = bytes(range(200))
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x8769] = {0x927C: maker_note, 0x829A: 0.01}
    raw = exif.tobytes()
    picture = images.read(saved(Image.fromarray(RGB), "JPEG", exif=raw))
    assert len(picture.exif) == len(raw) - 6 and maker_note in picture.exif
    assert sum(a != b for a, b in zip(picture.exif, raw[6:], strict=True)) == 1


@pytest.mark.parametrize(
    "noise", [b"Exif\0\0", b"junk", b"II*\0\xff\xff\xff\xff\0\0", b"MM\0*\0\0\0\x08\xff\xff"]
)
def test_broken_exif_does_not_stop_a_picture(noise):
    picture = images.read(saved(Image.fromarray(RGB), "PNG", exif=noise))
    assert np.array_equal(picture.pixels, RGB)


def test_profile_and_strip():
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    data = saved(Image.fromarray(RGB), "PNG", icc_profile=SRGB, exif=exif)
    picture = images.read(data)
    assert picture.icc == SRGB
    assert picture.to_pil().getexif()[0x010F] == "Maker"
    again = images.read(images.to_bytes(picture.to_pil(), ".png"))
    assert (again.icc, again.exif) == (picture.icc, picture.exif)
    bare = images.read(data, strip=True)
    assert (bare.icc, bare.exif) == (None, None)
    assert np.array_equal(bare.pixels, RGB)


@pytest.mark.parametrize(
    ("pixels", "profile", "kept", "gray"),
    [
        (GRAY, GRAY_PROFILE, True, True),
        (GRAY, SRGB, True, False),
        (RGB, GRAY_PROFILE, False, False),
    ],
)
def test_profiles_that_do_not_describe_the_pixels(pixels, profile, kept, gray):
    picture = images.read(saved(Image.fromarray(pixels), "PNG", icc_profile=profile))
    assert picture.icc == (profile if kept else None)
    assert picture.gray == gray


def test_a_phone_jpeg_with_further_pictures_behind_the_first():
    first, second = Image.fromarray(RGB), Image.new("RGB", (9, 9))
    data = saved(first, "MPO", save_all=True, append_images=[second], quality=100, subsampling=0)
    assert Image.open(io.BytesIO(data)).n_frames == 2
    assert images.read(data).pixels.shape == RGB.shape


def test_alpha_plane():
    alpha = WIDE[..., 0].astype(np.uint8)
    data, lower = (images.alpha_to_png(Image.fromarray(part)) for part in (alpha, alpha[1:]))
    assert np.array_equal(images.alpha_from_png(data, 7, 5), alpha)
    for bad in (b"", data[:-20], data[:40], lower, png(RGB, 8, 2)):
        with pytest.raises(PictureError, match="alpha"):
            images.alpha_from_png(bad, 7, 5)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tiff", ".TIF"])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_written_pictures_hold_the_same_pixels(suffix, mode):
    image = Image.fromarray(WIDE.astype(np.uint8), "RGBA").convert(mode)
    image.info["icc_profile"] = SRGB
    back = Image.open(io.BytesIO(images.to_bytes(image, suffix)))
    assert back.convert(mode).tobytes() == image.tobytes()
    assert back.info["icc_profile"] == SRGB


def test_output_formats_that_are_refused():
    image = Image.fromarray(RGB)
    assert images.to_bytes(image, ".jpg").startswith(b"\xff\xd8")
    for suffix in (".gif", "", ".flic"):
        with pytest.raises(PictureError, match="cannot write"):
            images.to_bytes(image, suffix)
    with pytest.raises(PictureError, match="transparency"):
        images.to_bytes(image.convert("RGBA"), ".jpeg")
