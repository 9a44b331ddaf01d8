"""Encode and decode where torch cannot be imported: the same files and pictures as with it."""

import numpy as np
import pytest
import torch
from cli_tools import without_torch
from PIL import Image
from places import ROOT
from processes import NO_TORCH, in_python

import flic
from flic.codec.opening import open_codec
from flic.coding.native_network import NativeNetwork
from flic.coding.padding import mean_colour, pad
from flic.format.tile_grid import Grid, Tile, input_box
from flic.model import checkpoint, library, loading
from flic.model.torch_network import TorchNetwork
from flic.model.weights import fingerprint, open_network, read

PARROT = ROOT / "flic" / "assets" / "parrot.png"
SMALL = ("small", "tiny")


@pytest.fixture(scope="module", params=SMALL)
def both(request):
    """A built-in model without torch, and with it."""
    path = library.locate(request.param)
    return open_network(path), TorchNetwork(loading.load(path))


def test_weights_and_their_name(both):
    native, other = both
    assert native.fingerprint == other.fingerprint and native.config == other.config
    assert native.metadata == other.metadata
    arrays, _ = read(library.locate(native.fingerprint))
    state = torch.nn.Module.state_dict(other.model)
    for name, array in arrays.items():
        assert np.array_equal(array, state[name].numpy()), name
    assert fingerprint(arrays) == checkpoint.fingerprint(other.model)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_transforms_are_the_modules(both, dtype):
    """To the last bit: the same operations on the same layout, whole and in tiles."""
    native, other = both
    pixels = np.random.RandomState(1).randint(0, 256, (300, 200, 3)).astype(np.uint8)
    for tile in (Tile.whole((300, 200)), *Grid((300, 200), 128)):
        box = input_box(tile)
        part = pixels[box.top : box.bottom, box.left : box.right]
        x = pad(part, (box.height, box.width), mean_colour(pixels))
        found, expected = native.analyze(x, tile, dtype), other.analyze(x, tile, dtype)
        assert np.array_equal(found.y, expected.y)
        assert np.abs(found.z - expected.z).max() < 1e-5
        assert all(map(np.array_equal, found.at(), expected.at()))
    whole = Tile.whole((300, 200))
    y_hat = np.rint(native.analyze(pad(pixels, (384, 256), mean_colour(pixels)), whole, dtype).y)
    assert np.array_equal(
        native.synthesize(y_hat, whole, dtype), other.synthesize(y_hat, whole, dtype)
    )


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
    assert open_network(path) is None
    with pytest.raises(flic.CheckpointError):
        open_codec(path)
    checkpoint.save_torch(flic.load_model("tiny"), tmp_path / "model.pth.tar")
    assert isinstance(open_codec("tiny").model, NativeNetwork)
    assert isinstance(open_codec(tmp_path / "model.pth.tar").model, flic.FLIC)


def test_weights_that_are_not_finite(tmp_path):
    for part in ("g_s.9.0.bias", "g_a.0.conv1.bias", "tca.TCA.lift.bias"):
        model = flic.load_model("tiny")
        torch.nn.Module.state_dict(model)[part].fill_(float("nan"))
        checkpoint.save(model, tmp_path / "nan.safetensors")
        with pytest.raises(flic.CheckpointError, match="cannot code"):
            flic.encode(PARROT, tmp_path / "nan.safetensors")
