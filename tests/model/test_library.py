"""The built-in models: right files, found by fingerprint, with what they were made from."""

import json
import struct

import numpy as np
import pytest

import flic
from flic.cli.show import ASSETS
from flic.config import CONFIGS
from flic.format import container
from flic.model import checkpoint, library
from flic.pictures import images
from flic.pictures.metrics import psnr

MOST_BYTES = 16_000_000


@pytest.mark.parametrize("entry", library.entries(library.WEIGHTS / "none"), ids=lambda e: e.name)
def test_files_are_what_they_say(entry):
    assert entry.builtin
    assert entry.path.stat().st_size <= MOST_BYTES
    model = flic.load_model(entry.name)
    assert checkpoint.fingerprint(model) == entry.fingerprint
    assert model.config == CONFIGS[entry.name]
    assert float(entry.metadata["lambda"]) > 0
    assert f"`{entry.fingerprint}`" in (library.WEIGHTS / "README.md").read_text()


def test_default_codes_a_photograph():
    """Without a model named, both ways; and the result looks like the photograph."""
    data = flic.encode(ASSETS / "parrot.png")
    assert library.find(container.unpack(data).fingerprint.hex()).name == library.DEFAULT
    decoded = np.asarray(flic.decode(data).convert("RGB"))
    picture = images.read(ASSETS / "parrot.png").pixels
    assert psnr(picture, decoded) > 28
    assert 8 * len(data) < 0.5 * picture.shape[0] * picture.shape[1]


def test_default_has_any_quality():
    """More bits and a better picture for a greater quality, from a few kilobytes on."""
    picture = images.read(ASSETS / "parrot.png").pixels
    files = [flic.encode(ASSETS / "parrot.png", quality=q) for q in (0, 30, 60, 100)]
    quality = [psnr(picture, np.asarray(flic.decode(file).convert("RGB"))) for file in files]
    assert sorted(map(len, files)) == list(map(len, files)) and len(files[0]) < 6000
    assert sorted(quality) == quality and quality[-1] > quality[0] + 6


@pytest.mark.parametrize("metadata", [None, "flic", ["format"], {"format": ["flic"]}])
def test_a_header_with_odd_metadata_is_no_model(tmp_path, metadata):
    header = json.dumps({"__metadata__": metadata}).encode()
    path = tmp_path / "odd.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    assert not library.is_model(path) and library.fingerprint(path) is None
