"""Models with random weights, and T-CA through the exact engine."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from flic.model import checkpoint
from flic.model.network import FLIC
from flic_kernels.exact import ExactEngine


@cache
def spread_model(config: str) -> FLIC:
    """A model with random weights and latents that are not all zero."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        model = FLIC(config).eval()
    with torch.no_grad():
        model.g_a[9].weight.mul_(20)
        model.h_a[3].weight.mul_(20)
    return model


def save_spread_model(config: str, folder: Path) -> Path:
    """Write `spread_model` into a folder; the file."""
    path = folder / "model.safetensors"
    checkpoint.save(spread_model(config), path)
    return path


def exact_tca(
    engine: ExactEngine, means: Tensor, scales: Tensor, y: Tensor
) -> tuple[list[tuple[Tensor, ...]], int]:
    """One picture's T-CA through the engine: each slice's results, and the multiply-adds done."""
    picture = engine.begin(means, scales)
    previous, results = None, []
    for current in y.split(engine.slice_channels):
        results.append(picture.next_slice(previous))
        previous = current
    return results, picture.multiply_adds()
