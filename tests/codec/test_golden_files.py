"""Files of versions 1 to 3 (tests/golden/files) decode for ever, on every instruction set."""

import json
import sys
import zlib

import numpy as np
import pytest
import torch
from golden_model import file_latents, portable_model
from PIL import Image
from places import GOLDEN

from flic.codec import codec
from flic.codec.opening import open_codec
from flic.coding import model_engine
from flic.coding.native_coder import NativeCoder
from flic.format import container
from flic.model import checkpoint
from flic_kernels import native

FILES = GOLDEN / "files"
NAMES = sorted(path.stem for path in FILES.glob("*.flic"))
pytestmark = pytest.mark.usefixtures("one_thread")


def load(name):
    """The file, the facts and the arrays that it must give."""
    with np.load(FILES / f"{name}.npz") as arrays:
        return (
            (FILES / f"{name}.flic").read_bytes(),
            json.loads((FILES / f"{name}.json").read_text()),
            dict(arrays),
        )


def test_all_kinds_are_there():
    whole = {"plain", "odd", "smallest", "gray", "alpha", "metadata", "wide"}
    steps = {"step_coarse", "step_fine", "tiled_step"}
    assert whole | {"tiled", "tiled_all"} | steps <= set(NAMES)


def test_the_weights_are_the_same_bits_here():
    """If not, the golden files cannot be judged on this machine, whatever else fails."""
    fingerprints = {
        json.loads((FILES / f"{name}.json").read_text())["fingerprint"] for name in NAMES
    }
    assert fingerprints == {codec.Codec(portable_model()).fingerprint.hex()}


@pytest.mark.parametrize("name", NAMES)
def test_header_and_sections(name):
    data, facts, _ = load(name)
    file = container.unpack(data)
    for field in ("version", "width", "height", "gray"):
        assert getattr(file, field) == facts[field]
    assert file.fingerprint.hex() == facts["fingerprint"]
    assert file.tile == facts.get("tile") == (128 if name.startswith("tiled") else None)
    assert file.step == facts.get("step", 1.0)
    assert (file.version == 3) == ("step" in name)
    assert len(file.streams) == (6 if name.startswith("tiled") else 1)
    assert zlib.crc32(b"".join(file.streams)) == facts["stream"]
    for field in ("icc", "exif"):
        value = getattr(file, field)
        assert (None if value is None else zlib.crc32(value)) == facts[field]


@pytest.mark.parametrize("isa", ["scalar", "avx2", "avx512"])
@pytest.mark.parametrize("name", NAMES)
def test_integers(name, isa):
    if isa not in native.available_isas():
        pytest.skip(f"this machine has no {isa}")
    data, facts, arrays = load(name)
    file = container.unpack(data)
    with native.use_isa(isa):
        made = model_engine.build(portable_model(), isa=isa, threads=1)
        latents = file_latents(portable_model(), file, made)
    assert np.array_equal(latents.y[0].numpy(), arrays["y"])
    assert np.array_equal(latents.z[0].numpy(), arrays["z"])
    assert latents.crc32(0) == facts["latents"]
    z, y = (torch.from_numpy(arrays[key]).numpy().astype("<i4").tobytes() for key in "zy")
    assert zlib.crc32(z + y) == facts["latents"]


@pytest.mark.parametrize("name", [name for name in NAMES if name != "wide"])
def test_picture(name):
    """g_s is ordinary arithmetic: the picture may differ from machine to machine by a rounding.

    The latents of "wide" overflow float32 in g_s: such a file has no right picture.
    """
    data, facts, arrays = load(name)
    picture = codec.Codec(portable_model()).decode_picture(data)
    difference = np.abs(picture.pixels.astype(int) - arrays["pixels"])
    assert difference.max() <= 1 and (difference > 0).mean() < 0.01
    alpha = None if picture.alpha is None else zlib.crc32(picture.alpha.tobytes())
    assert alpha == facts["alpha"]
    image = picture.to_pil()
    mode = ("L" if facts["gray"] else "RGB") + ("" if facts["alpha"] is None else "A")
    assert (image.mode, image.size) == (mode, (facts["width"], facts["height"]))


def test_the_script_never_replaces_a_file(monkeypatch):
    monkeypatch.syspath_prepend(FILES.parent)
    import make_files

    monkeypatch.setattr(sys, "argv", ["make_files.py", "plain"])
    with pytest.raises(SystemExit, match="never change"):
        make_files.main()
    assert isinstance(make_files.plain(), Image.Image)


@pytest.fixture(scope="module")
def native_codec(tmp_path_factory):
    """The golden files' model, coding without torch."""
    path = tmp_path_factory.mktemp("portable") / "model.safetensors"
    checkpoint.save(portable_model(), path, compact=True)
    made = open_codec(path)
    assert isinstance(made.coder, NativeCoder)
    return made


@pytest.mark.parametrize("name", NAMES)
def test_without_torch(native_codec, name):
    """The same integers (a checksum in the file), and the module's picture."""
    data, facts, _ = load(name)
    assert native_codec.fingerprint.hex() == facts["fingerprint"]
    native_codec.verify(data)
    found = native_codec.decode_picture(data).pixels
    expected = codec.Codec(portable_model()).decode_picture(data).pixels
    assert np.abs(found.astype(int) - expected).max() <= 1
