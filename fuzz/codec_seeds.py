"""Writes what codec_fuzzer.cpp begins with.

Usage: python fuzz/codec_seeds.py FOLDER. FOLDER/model.safetensors is a very small model;
FOLDER/seeds holds .flic files that it made, the header of its file and that of one in half
precision.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import flic
from flic.model import checkpoint

CONFIG = flic.Config(
    widths=(4, 4, 4), heads=(4, 4, 4), latent=8, hyper=3, slices=2, ratio=4, depth=1
)


def model() -> flic.FLIC:
    """A model whose streams are not empty: g_a's last layer is far from zero."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        made = flic.FLIC(CONFIG).eval()
    with torch.no_grad():
        made.g_a[-1].weight.mul_(40)
        made.h_a[-1].weight.mul_(8)
    return made


def header(path: Path) -> bytes:
    """A safetensors file's beginning, before the values."""
    data = path.read_bytes()
    return data[: 8 + int.from_bytes(data[:8], "little")]


def write(folder: Path) -> None:
    seeds = folder / "seeds"
    seeds.mkdir(parents=True, exist_ok=True)
    coder = model()
    path = folder / "model.safetensors"
    checkpoint.save(coder, path, compact=True, quality_steps="4 0.25")
    (seeds / "model").write_bytes(header(path) + bytes(16))
    checkpoint.save(coder, folder / "half.safetensors", compact=True, half=True)
    (seeds / "half").write_bytes(header(folder / "half.safetensors"))
    noise = np.random.RandomState(1).randint(0, 256, (130, 257, 3)).astype(np.uint8)
    picture, gray = Image.fromarray(noise), Image.fromarray(noise).convert("L")
    transparent = picture.crop((0, 0, 5, 4))
    transparent.putalpha(77)
    transparent.info["icc_profile"] = bytes(40)
    files = {
        "whole": (picture.crop((0, 0, 1, 1)), {}),
        "gray": (gray.crop((0, 0, 100, 60)), {"step": 3.5}),
        "sections": (transparent, {}),
        "tiled": (picture, {"tile": 128}),
        "gray_tiled": (gray, {"tile": 128, "step": 0.25}),
    }
    for name, (image, options) in files.items():
        (seeds / name).write_bytes(flic.encode(image, path, **options))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
