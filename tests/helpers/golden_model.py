"""The published network on deterministic weights, and the values it must give (tests/golden)."""

import functools
import importlib.util
import json
import zlib

import numpy as np
import torch
from places import GOLDEN

from flic import FLIC
from flic.coding import entropy
from flic.coding.entropy import Latents
from flic.coding.entropy_engine import Engine
from flic.format.container import Container

TOLERANCE = 2e-5  # of the largest golden value, tests/golden/README.md
SMALL = {
    "widths": (8, 12, 16),
    "heads": (4, 4, 4),
    "latent": 12,
    "hyper": 6,
    "slices": 3,
    "ratio": 4,
    "depth": 2,
}


@functools.cache
def golden() -> dict[str, np.ndarray]:
    """Every golden array by its name."""
    with np.load(GOLDEN / "flic_golden.npz") as file:
        return dict(file)


@functools.cache
def golden_keys() -> dict[str, list]:
    """The published state dict's keys: {name: [dtype, shape]}."""
    return json.loads((GOLDEN / "state_dict_keys.json").read_text())


def fill(model: FLIC, seed: int = 0) -> FLIC:
    """Give a model the deterministic weights of golden/fill_weights.py, in eval mode."""
    spec = importlib.util.spec_from_file_location("fill_weights", GOLDEN / "fill_weights.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    state = module.fill_state_dict(model.state_dict(), seed)
    for name in state:  # fill_weights leaves z's prior alone, whose biases start at random
        if name.startswith("entropy_bottleneck.biases."):
            rng = np.random.RandomState(seed + int(name[-1]))
            state[name] = torch.from_numpy(rng.uniform(-0.5, 0.5, state[name].shape)).float()
    model.load_state_dict(state)
    return model.eval()


@functools.cache
def base_model() -> FLIC:
    """The base configuration on the golden weights; do not change it."""
    model = fill(FLIC())
    state = model.state_dict()
    for name, value in golden().items():
        if name.startswith("entropy_bottleneck/"):
            state[name.replace("/", ".")] = torch.from_numpy(value)
    model.load_state_dict(state)
    return model


@functools.cache
def small_model() -> FLIC:
    """A very small model on deterministic weights; do not change it."""
    return fill(FLIC(SMALL))


@functools.cache
def portable_model() -> FLIC:
    """A very small model whose weights are the same bits on any machine; do not change it.

    fill() draws normal numbers, for which numpy calls the C library's logarithm. Here is nothing
    but the Mersenne Twister and float64 arithmetic. The golden files hold its fingerprint.
    """
    model = FLIC(SMALL)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            uniform = np.random.RandomState(zlib.crc32(name.encode())).random_sample
            value = _portable(name, 2.0 * uniform(tuple(parameter.shape)) - 1.0)
            parameter.copy_(torch.from_numpy(value.astype(np.float32)))
    return model.eval()


def _portable(name: str, noise: np.ndarray) -> np.ndarray:
    """A parameter's values from uniform numbers in [-1, 1)."""
    leaf = name.rsplit(".", 1)[-1]
    if name.startswith("entropy_bottleneck.matrices."):
        return (-0.1 if name.endswith("4") else -1.5) + 0.1 * noise
    if name.startswith("entropy_bottleneck."):
        return 0.5 * noise
    if leaf == "beta":
        return 1.0 + 0.1 * noise
    if leaf == "gamma":
        return 0.3 * np.eye(len(noise)) + 0.01 * (noise + 1.0)
    if leaf == "complex_weight":
        return 0.3 * noise + np.array([1.0, 0.0])
    if leaf in ("bias", "relative_position_bias_table", "start_token"):
        value = 0.2 * noise
        if name == "tca.entropy_parameters_net.4.bias":  # means, scales and residuals interleave
            value[1::3] = 0.2 + 2.0 * (noise[1::3] + 1.0)
        return value
    if noise.ndim == 1:
        return 1.0 + 0.2 * noise
    gain = {"g_a.9.weight": 40.0, "h_a.3.weight": 8.0}.get(name, 1.0)
    return gain * noise / np.sqrt(float(noise[0].size))


def file_latents(model: FLIC, file: Container, engine: Engine | None = None) -> Latents:
    """The integers of a file's picture, those of its tiles put together."""
    height, width = (side // 16 for side in file.grid.bounds[2:])
    y = torch.empty(1, model.config.latent, height, width, dtype=torch.int32)
    z = torch.empty(1, model.config.hyper, height // 4, width // 4, dtype=torch.int32)
    for tile, stream in zip(file.grid, file.streams, strict=True):
        size = (tile.core.height, tile.core.width)
        latents, _ = entropy.decode(model, [stream], size, engine, tile.margins, file.step)
        y[..., *tile.core.slices(tile.bounds, 16)] = latents.y
        z[..., *tile.core.slices(tile.bounds, 64)] = latents.z
    return Latents(y, z, file.step)


def assert_golden(result: torch.Tensor, expected: np.ndarray) -> None:
    """Agreement as tests/golden/README.md asks for it."""
    result = result.detach().numpy()
    assert result.shape == expected.shape
    error = np.abs(result - expected).max()
    assert error <= TOLERANCE * np.abs(expected).max(), f"largest difference {error}"
