"""The network against the published one's numbers."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from golden_model import assert_golden, base_model, golden, golden_keys

from flic_kernels import frequency_modulation, use

BLOCKS = {
    "g_a.1": (96, 16, 32),
    "g_a.2": (96, 32, 16),
    "g_a.5": (144, 32, 16),
    "g_a.8": (256, 16, 16),
    "h_a.1": (256, 8, 12),
    "h_a.2": (256, 8, 12),
}


@pytest.fixture(params=["default", "reference"])
def implementation(request):
    with nullcontext() if request.param == "default" else use(request.param):
        yield


def draw(seed: int, *shape: int) -> np.ndarray:
    return np.random.RandomState(seed).standard_normal(shape).astype(np.float32)


def test_keys_and_shapes():
    state = base_model().state_dict()
    shapes = {
        name: [str(v.dtype).removeprefix("torch."), list(v.shape)] for name, v in state.items()
    }
    assert len(shapes) == 835
    assert shapes == golden_keys()


@pytest.mark.parametrize("name", ["full0", "full1"])
@torch.no_grad()
def test_forward(implementation, name):
    model, values = base_model(), golden()
    x = torch.from_numpy(values[f"{name}/x"])
    y = model.g_a(x)
    z = model.h_a(y)
    z_hat, _ = model.entropy_bottleneck(z)
    out = model(x)
    results = {
        "y": y,
        "z": z,
        "means_hyper": model.h_mean_s(z_hat),
        "scales_hyper": model.h_scale_s(z_hat),
        "means": out["para"]["means"],
        "scales": out["para"]["scales"],
        "x_hat": out["x_hat"],
    }
    for key, result in results.items():
        assert_golden(result, values[f"{name}/{key}"])
    for key, likelihoods in out["likelihoods"].items():
        bits = likelihoods.double().log2().sum().item()
        expected = float(values[f"{name}/log2_likelihood_{key}"])
        assert bits == pytest.approx(expected, rel=1e-5)
    checked = {f"{name}/{key}" for key in (*results, "x", "log2_likelihood_y", "log2_likelihood_z")}
    assert checked == {key for key in values if key.startswith(f"{name}/")}


@pytest.mark.parametrize("name", BLOCKS)
@torch.no_grad()
def test_block(implementation, name):
    x = torch.from_numpy(draw(500, 1, *BLOCKS[name])).permute(0, 2, 3, 1)
    block = base_model().get_submodule(name)
    assert_golden(block(x).permute(0, 3, 1, 2), golden()[f"block/{name}/out"])
    modulated = frequency_modulation(x, block.trans_block.fm.complex_weight)
    assert_golden(modulated.flatten(1, 2), golden()[f"block/{name}/fm_out"])


@torch.no_grad()
def test_tca(implementation):
    model = base_model()
    hyper = torch.from_numpy(draw(700, 1, 640, 8, 16))
    y = torch.from_numpy(np.round(3 * draw(701, 1, 320, 8, 16)))
    for key, result in zip(("means", "scales", "lrp"), model.tca(hyper, y), strict=True):
        assert_golden(result, golden()[f"tca/{key}"])
