"""Encode and decode where torch cannot be imported: the same files and pictures as with it."""

import dataclasses

import numpy as np
import pytest
import torch
from cli_tools import without_torch
from PIL import Image
from places import ROOT
from processes import NO_TORCH, in_python
from weights_reference import fingerprint, read

import flic
from flic.codec.opening import open_codec
from flic.coding.array_coder import ArrayCoder
from flic.coding.native_coder import NativeCoder
from flic.coding.request import Request
from flic.format.container import Container, unpack
from flic.format.tile_grid import Box
from flic.model import checkpoint, library, loading
from flic.model.torch_network import TorchNetwork

PARROT = ROOT / "flic" / "assets" / "parrot.png"
SMALL = ("small", "tiny")


@pytest.fixture(scope="module", params=SMALL)
def both(request):
    """A built-in model without torch, and with it."""
    path = library.locate(request.param)
    return open_codec(path).coder, ArrayCoder(TorchNetwork(loading.load(path)))


def test_weights_and_their_name(both):
    native, other = both
    assert native.fingerprint == other.fingerprint and native.config == other.config
    assert native.metadata == other.metadata
    arrays, _ = read(library.locate(native.fingerprint))
    state = torch.nn.Module.state_dict(other.network.model)
    for name, array in arrays.items():
        assert np.array_equal(array, state[name].numpy()), name
    assert fingerprint(arrays) == checkpoint.fingerprint(other.network.model)


@pytest.mark.parametrize("gray", [False, True])
@pytest.mark.parametrize("tile", [None, 128])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_integers_are_the_modules(both, dtype, tile, gray):
    """At step 1/64 as well, which shows y to 1/64; and the pictures: the same operations on the
    same layout."""
    native, other = both
    pixels = np.random.RandomState(1).randint(0, 256, (300, 200, 3)).astype(np.uint8)
    if gray:
        pixels[:] = pixels[..., :1]
    image = Image.fromarray(pixels[..., 0] if gray else pixels)
    coders = [each.begin(Request(image, tile, dtype, again=True)) for each in both]
    fields = dict(width=200, height=300, streams=(), gray=gray, tile=tile)
    frame = Container(fingerprint=bytes.fromhex(native.fingerprint), icc=b"profile", **fields)
    for step in (1.0, 1 / 64, 7.7):
        told = ([], [])
        data, expected = (
            coder.file(frame, step, lambda *parts, kept=kept: kept.append(parts))
            for coder, kept in zip(coders, told, strict=True)
        )
        assert data == expected and told[0] == told[1]
        found, drawn = (coder.image() for coder in coders)
        assert found == drawn and found.mode == image.mode
        file = unpack(data)
        for region in (Box(0, 0, 300, 200), Box(120, 3, 131, 150)):
            parts = ([], [])
            decoded, wanted = (
                each.image(file, region, dtype, lambda *part, kept=kept: kept.append(part))
                for each, kept in zip(both, parts, strict=True)
            )
            part = found.crop((region.left, region.top, region.right, region.bottom))
            assert decoded == part == wanted and parts[0] == parts[1]


def test_what_is_decoded_is_what_a_container_says():
    """Not the file that it was read from once."""
    codec = open_codec("tiny")
    first, second = (codec.encode(np.full((40, 50, 3), value, np.uint8)) for value in (90, 200))
    changed = dataclasses.replace(unpack(first), streams=unpack(second).streams)
    found = codec.decode_picture(changed).pixels
    assert np.array_equal(found, codec.decode_picture(second).pixels)
    assert not np.array_equal(found, codec.decode_picture(first).pixels)
    codec.verify(changed)


def test_the_files_are_the_same(tmp_path):
    program = f"""
import flic
data = flic.encode({str(PARROT)!r})
open("a.flic", "wb").write(data)
open("b.flic", "wb").write(flic.encode({str(PARROT)!r}, "tiny", step=2, tile=128))
flic.decode(data).save("a.png")
flic.decode("b.flic", crop=(10, 20, 300, 40)).save("b.png")
import flic.pillow
from PIL import Image
assert Image.open("a.flic").size == (512, 512)
assert "numpy" not in sys.modules
from flic.imagecodecs import flic_decode, flic_encode
assert flic_decode(flic_encode(flic_decode(data))).shape == (512, 512, 3)
assert "torch" not in sys.modules
"""
    in_python(NO_TORCH + program, cwd=tmp_path)
    model, tiny = flic.load_model(), flic.load_model("tiny")
    data = (tmp_path / "a.flic").read_bytes()
    assert flic.encode(PARROT, model) == data
    tiles = (tmp_path / "b.flic").read_bytes()
    assert flic.encode(PARROT, tiny, step=2, tile=128) == tiles
    for name, expected in (
        ("a.png", flic.decode(data, model)),
        ("b.png", flic.decode(tiles, tiny, crop=(10, 20, 300, 40))),
    ):
        found = np.asarray(Image.open(tmp_path / name)).astype(int)
        assert np.abs(found - np.asarray(expected)).max() <= 1


def test_commands(tmp_path):
    """All that code with a built-in model; what needs torch says what brings it."""
    picture = tmp_path / "parrot.png"
    Image.open(PARROT).crop((0, 0, 200, 140)).save(picture)
    (tmp_path / "folder").mkdir()
    Image.open(picture).save(tmp_path / "folder" / "p.png")
    for command in (
        ["encode", "parrot.png", "a.flic"],
        ["encode", "parrot.png", "b.flic", "--target-bpp", "0.5", "--dtype", "bfloat16"],
        ["decode", "a.flic", "a.png"],
        ["info", "a.flic"],
        ["verify", "a.flic"],
        ["models"],
        ["compare", "parrot.png"],
        ["demo", "demo"],
        ["encode", "folder", "coded"],
        ["decode", "coded", "decoded"],
        ["verify", "coded"],
    ):
        done = without_torch(*command, cwd=tmp_path)
        assert done.returncode == 0, (command, done.stderr)
    assert (tmp_path / "decoded" / "p.png").exists()
    (tmp_path / "m.pth.tar").write_bytes(b"")
    hint = "pip install 'flic-kernels[torch]'"
    for command in (
        ["encode", "parrot.png", "c.flic", "-m", "m.pth.tar"],
        ["convert", "m.pth.tar", "m.safetensors"],
        ["eval", "--data", "folder"],
        ["train", "--data", "folder", "--save", "run"],
    ):
        done = without_torch(*command, cwd=tmp_path)
        assert done.returncode == 1 and done.stderr.count("\n") == 1, (command, done.stderr)
        assert done.stderr.startswith("flic: ") and hint in done.stderr, (command, done.stderr)
    program = "import flic\ntry:\n    flic.FLIC\nexcept ImportError as error:\n    print(error)"
    assert hint in in_python(NO_TORCH + program)


def test_what_is_no_plain_model_file_is_loaded_with_torch(tmp_path):
    """So that it is torch's loader that says what is wrong with it."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(library.locate("tiny").read_bytes()[:-4])
    with pytest.raises(flic.CheckpointError):
        open_codec(path)
    checkpoint.save_torch(flic.load_model("tiny"), tmp_path / "model.pth.tar")
    assert isinstance(open_codec("tiny").model, NativeCoder)
    assert isinstance(open_codec(tmp_path / "model.pth.tar").model, flic.FLIC)


def test_weights_that_are_not_finite(tmp_path):
    for part in ("g_s.9.0.bias", "g_a.0.conv1.bias", "tca.TCA.lift.bias"):
        model = flic.load_model("tiny")
        torch.nn.Module.state_dict(model)[part].fill_(float("nan"))
        checkpoint.save(model, tmp_path / "nan.safetensors")
        with pytest.raises(flic.CheckpointError, match="cannot code"):
            flic.encode(PARROT, tmp_path / "nan.safetensors")
