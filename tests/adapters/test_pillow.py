"""The Pillow plugin: lazy opening, metadata, modes, and errors as Pillow's users expect them."""

import io
import threading

import numpy as np
import pytest
from cli_tools import pixels
from PIL import Image, ImageCms, UnidentifiedImageError
from processes import python

import flic
import flic.pillow
from flic.codec import cache
from flic.format import container
from flic.model import checkpoint

pytestmark = pytest.mark.usefixtures("one_thread", "known_models", "none_kept")
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.fixture
def none_kept(monkeypatch):
    monkeypatch.setattr(cache, "_added", {})


def saved(image: Image.Image, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, "FLIC", **options)
    return out.getvalue()


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def picture(mode: str) -> Image.Image:
    image = Image.fromarray(pixels()).convert(mode)
    if mode.endswith("A"):
        image.putalpha(Image.fromarray(pixels(1)[..., 0]))
    return image


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_modes(mode):
    source = picture(mode)
    data = saved(source)
    assert data == flic.encode(source)
    image = opened(data)
    assert (image.format, image.mode, image.size) == ("FLIC", mode, (40, 30))
    assert image.get_format_mimetype() == "image/x-flic"
    assert image.tobytes() == flic.decode(data).tobytes()
    if mode.endswith("A"):
        assert image.getchannel("A").tobytes() == source.getchannel("A").tobytes()


def test_by_extension(tmp_path):
    source = picture("RGB")
    source.save(tmp_path / "a.flic")
    with Image.open(tmp_path / "a.flic") as image:
        assert image.tobytes() == flic.decode(saved(source)).tobytes()
    assert Image.registered_extensions()[".flic"] == "FLIC"


def test_other_modes_are_converted_as_pictures_are():
    palette = Image.fromarray(pixels()).quantize(16)
    assert opened(saved(palette)).mode == "RGB"
    palette.info["transparency"] = 3
    assert opened(saved(palette)).mode == "RGBA"
    gray = picture("L")
    gray.info["transparency"] = gray.getpixel((0, 0))
    alpha = np.asarray(opened(saved(gray)))[..., 1]
    assert np.array_equal(alpha == 0, np.asarray(gray) == gray.getpixel((0, 0)))
    opaque = Image.merge("RGBA", (*picture("RGB").split(), Image.new("L", (40, 30), 255)))
    assert saved(opaque) == saved(picture("RGB"))


class Watched(io.BytesIO):
    bytes_read = 0

    def read(self, count=-1):
        data = super().read(count)
        self.bytes_read += len(data)
        return data


def test_opening_reads_the_header_only(monkeypatch):
    """Nothing is decoded, nor even read, before the pixels are asked for; then once."""
    data = saved(picture("RGBA"), icc_profile=SRGB)
    calls = []
    decode = flic.Codec.decode_picture
    monkeypatch.setattr(flic.Codec, "decode_picture", lambda *a: (calls.append(1), decode(*a))[1])
    file = Watched(data)
    image = Image.open(file, formats=["FLIC"])  # other plugins, once loaded, read on their own
    assert file.bytes_read < len(SRGB) + 200 < len(data)
    assert (image.mode, image.size) == ("RGBA", (40, 30))
    assert image.info["icc_profile"] == SRGB
    assert calls == []
    image.load()
    image.getpixel((3, 3))
    assert image.copy().tobytes() == image.tobytes()
    assert calls == [1]
    assert not file.closed


def test_import_and_opening_need_no_torch(tmp_path):
    (tmp_path / "a.flic").write_bytes(saved(picture("L")))
    code = """
import sys, flic.pillow, flic.imagecodecs
from PIL import Image
image = Image.open("a.flic")
image.verify()
print(image.size, image.mode, "torch" in sys.modules)
"""
    done = python("-c", code, cwd=tmp_path)
    assert done.stdout.split("\n")[0] == "(40, 30) L False", done.stderr


def test_metadata():
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    source = picture("RGB")
    source.info |= {"icc_profile": SRGB, "exif": b"Exif\0\0II*\0\x08\0\0\0\0\0", "comment": "x"}
    assert opened(saved(source)).info == {"icc_profile": SRGB}  # as Pillow's formats have it
    for value in (exif, exif.tobytes()):
        image = opened(saved(source, exif=value, icc_profile=None))
        assert set(image.info) == {"exif"}
        assert dict(image.getexif()) == {0x010F: "Maker"}
        assert opened(saved(image, exif=image.getexif())).info == image.info
    assert source.info["comment"] == "x"


def test_an_orientation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6
    image = opened(saved(picture("RGBA"), exif=exif))
    assert image.size == (30, 40)
    assert dict(image.getexif()) == {0x0112: 1}
    upright = np.rot90(np.asarray(picture("RGBA"))[..., 3], -1)
    assert np.array_equal(np.asarray(image)[..., 3], upright)


def test_models(model_folder, tmp_path, monkeypatch):
    other = flic.FLIC(flic.load_model().config)
    with pytest.raises(OSError, match="no model 'nothing'"):
        picture("RGB").save(tmp_path / "b.flic", model="nothing")
    assert not (tmp_path / "b.flic").exists()
    data = saved(picture("RGB"), model=other)
    assert data == flic.encode(picture("RGB"), other)
    image = opened(data)
    with pytest.raises(OSError, match="neither built in nor"):
        image.load()
    fingerprint = flic.pillow.add_model(other)
    assert container.unpack(data).fingerprint.hex() == fingerprint
    image.load()  # an error before changes nothing
    assert image.tobytes() == opened(data).tobytes() == flic.decode(data, other).tobytes()
    small = model_folder / "small.safetensors"
    assert saved(picture("RGB"), model=small) == saved(picture("RGB"), model="small")


def test_a_quality_or_step_chooses_the_rate(small_model, tmp_path, model_folder):
    path, source = tmp_path / "varied.safetensors", picture("RGBA")
    checkpoint.save(small_model, path, quality_steps="4 0.25")
    files = [saved(source, model=path, quality=quality) for quality in (0, 25, 50, 75, 100)]
    for file, step in zip(files, (4, 2, 1, 0.5, 0.25), strict=True):
        assert file == flic.encode(source, path, step=step) == saved(source, model=path, step=step)
        assert container.unpack(file).step == step
        opened(file).load()  # `small` has the same weights
    assert files[2] == saved(source, model=path)
    source.save(tmp_path / "a.flic", step=2)  # any model has steps
    assert (tmp_path / "a.flic").read_bytes() == files[1]


def test_a_rate_that_cannot_be(tmp_path):
    for wrong, match in (
        (dict(quality=80), "this model does not say what steps its qualities are"),
        (dict(quality=80, model="small"), "this model does not say what steps its qualities are"),
        (dict(quality=101), "a quality must lie between 0 and 100, not 101"),
        (dict(quality="keep"), "quality must be a number, not 'keep'"),
        (dict(step=0), "a step must lie between"),
        (dict(quality=50, step=1), "quality and step each choose the rate"),
    ):
        with pytest.raises(ValueError, match=match) as caught:
            picture("RGB").save(tmp_path / "a.flic", **wrong)
        assert "\n" not in str(caught.value) and not (tmp_path / "a.flic").exists()


def test_models_are_loaded_once(model_folder, tmp_path, monkeypatch):
    """While their files are the same, from any number of threads; the latest few stay."""
    monkeypatch.setattr(cache, "_loaded", type(cache._loaded)())
    calls = []
    load = cache.open_codec
    monkeypatch.setattr(cache, "open_codec", lambda *a: (calls.append(a), load(*a))[1])
    data = saved(picture("RGB"))
    expected, results = opened(data).tobytes(), []
    threads = [
        threading.Thread(target=lambda: results.append(opened(data).tobytes())) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [expected] * 3 and len(calls) == 1
    weights = (model_folder / "small.safetensors").read_bytes()
    for i in range(cache.MOST):
        (tmp_path / f"{i}.safetensors").write_bytes(weights)
        cache.for_encoding(tmp_path / f"{i}.safetensors")
    assert len(calls) == 1 + cache.MOST == 1 + len(cache._loaded)
    cache.for_encoding()
    assert len(calls) == 2 + cache.MOST


def test_what_is_no_flic_file():
    for data in (b"", b"flic" + bytes(100), b"\x89PNG\r\n\x1a\n"):
        with pytest.raises(UnidentifiedImageError):
            opened(data)
        with pytest.raises(SyntaxError):
            flic.pillow.FlicImageFile(io.BytesIO(data))


def test_damage(tmp_path):
    data = saved(picture("RGB"))
    for cut in (4, 5, 15, len(data) // 2, len(data) - 1):
        with pytest.raises(OSError, match="ends early"):
            opened(data[:cut]).load()
        with pytest.raises(OSError, match="ends early"):
            opened(data[:cut]).verify()
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 1
    (tmp_path / "a.flic").write_bytes(flipped)
    image = Image.open(tmp_path / "a.flic")
    assert image.size == (40, 30)
    for _ in range(2):
        with pytest.raises(OSError, match="checksum"):
            image.load()
    with pytest.raises(OSError, match="checksum"):
        image.verify()
    with pytest.raises(OSError, match="newer flic"):
        opened(b"FLIC\xff" + data[5:])


def test_verify_decodes_nothing(monkeypatch):
    monkeypatch.setattr(flic.Codec, "decode_picture", None)
    image = opened(saved(picture("RGB")))
    image.verify()


def test_a_file_that_changes_after_opening():
    file = io.BytesIO(saved(picture("RGB")))
    image = Image.open(file)
    file.seek(0)
    file.write(saved(picture("L")))
    file.truncate()
    with pytest.raises(OSError, match="has changed"):
        image.load()


def test_images_that_cannot_be_coded(tmp_path):
    for image, reason in (
        (Image.new("F", (8, 8)), "mode F"),
        (Image.new("RGB", (70_000, 1)), "too large"),
    ):
        with pytest.raises(OSError, match=f"as FLIC: .*{reason}"):
            image.save(tmp_path / "a.flic")
        assert list(tmp_path.iterdir()) == []
