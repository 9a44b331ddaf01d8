"""bfloat16 for the transforms: what may change, and what may not."""

import numpy as np
import pytest
import torch
from cli_tools import fails, png, run
from golden_model import small_model

import flic
from flic.codec.codec import Codec
from flic.coding import entropy
from flic.coding.tile_transforms import analyze, synthesize
from flic.errors import OptionError
from flic.format.tile_grid import Tile


@pytest.fixture(scope="module")
def picture():
    ramp = np.linspace(0, 255, 128 * 160).reshape(128, 160, 1)
    noise = np.random.default_rng(3).normal(0, 12, (128, 160, 3))
    return np.clip(ramp + noise, 0, 255).astype(np.uint8)


def test_files_open_whatever_was_chosen(picture):
    model = small_model()
    plain, quick = Codec(model), Codec(model, torch.bfloat16)
    for data in (plain.encode(picture), quick.encode(picture)):
        exact, other = (np.asarray(codec.decode(data)).astype(int) for codec in (plain, quick))
        assert (exact != other).any()  # it did compute otherwise
        assert np.abs(exact - other).mean() < 2


def test_only_the_transforms_change(picture):
    model, tile = small_model(), Tile.whole((128, 256))
    x = torch.rand(1, 3, 128, 256, generator=torch.Generator().manual_seed(0))
    exact, quick = (analyze(model, x, tile, dtype).at() for dtype in (None, torch.bfloat16))
    assert not torch.equal(exact.y, quick.y)
    # The same integers give the same stream and the same corrected latents.
    streams = entropy.encode(model, quick)
    decoded, y_hat = entropy.decode(model, streams, (128, 256))
    assert torch.equal(decoded.y, quick.y) and y_hat.dtype == torch.float32
    out = synthesize(model, y_hat, tile, torch.bfloat16)
    assert out.dtype == torch.float32
    assert (out - synthesize(model, y_hat, tile)).abs().mean() < 0.02
    assert all(p.dtype == torch.float32 for p in model.parameters())


def test_names(picture, tmp_path):
    with pytest.raises(OptionError, match="unknown dtype 'half' .*float32, bfloat16"):
        flic.encode(picture, small_model(), dtype="half")
    with pytest.raises(
        ValueError, match="dtype must be torch.float32 or torch.bfloat16, not torch.float16"
    ):
        Codec(small_model(), torch.float16)
    source = tmp_path / "a.png"
    source.write_bytes(png())
    run("encode", source, tmp_path / "a.flic", "--dtype", "bfloat16", "--quiet")
    run("decode", tmp_path / "a.flic", tmp_path / "b.png", "--dtype", "bfloat16", "--quiet")
    assert (tmp_path / "b.png").stat().st_size
    fails(
        "decode", tmp_path / "a.flic", tmp_path / "c.png", "--dtype", "int8", match="unknown dtype"
    )
