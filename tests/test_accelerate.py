"""accelerate and restore, on the published network's interfaces and on flic.FLIC."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from operation_checks import error
from published_network import FAT_Block, PublishedNetwork
from torch import nn

import flic_kernels
from flic_kernels.ops import OPERATIONS

pytestmark = pytest.mark.usefixtures("one_thread")


def build():
    torch.manual_seed(0)
    return PublishedNetwork().eval()


@pytest.fixture
def picture():
    return torch.rand(2, 3, 16, 32, generator=torch.Generator().manual_seed(1))


def gradients(model, x):
    out = model(x)
    return out, torch.autograd.grad(out.square().mean(), list(model.parameters()))


def test_same_results_and_gradients_then_restored(picture):
    model = build()
    state = {name: tensor.data_ptr() for name, tensor in model.state_dict().items()}
    expected, wanted = gradients(model, picture)
    assert flic_kernels.accelerate(model) is model
    assert {n: t.data_ptr() for n, t in model.state_dict().items()} == state
    out, found = gradients(model, picture)
    assert error([out], [expected]) < 1e-6
    for got, want, (name, _) in zip(found, wanted, model.named_parameters(), strict=True):
        assert torch.allclose(got, want, rtol=1e-3, atol=1e-6), name
    changed = [m for m in model.modules() if "forward" in m.__dict__]
    assert len(changed) == 8  # three FAT blocks, a T-CA layer, two residual blocks, g_a and g_s
    assert flic_kernels.restore(model) is model
    assert not any("forward" in m.__dict__ for m in model.modules())
    assert torch.equal(model(picture), expected)


def test_twice_is_once_and_a_copy_is_its_own(picture):
    model = flic_kernels.accelerate(flic_kernels.accelerate(build()))
    twin = copy.deepcopy(model)
    with torch.no_grad():
        twin.g_a[1].conv1_1.weight.mul_(2)
        assert not torch.allclose(twin(picture), model(picture))
    flic_kernels.restore(model)
    assert "forward" in twin.g_a[1].__dict__ and "forward" not in model.g_a[1].__dict__


def test_on_the_triton_kernels(picture, monkeypatch):
    """Every operation's Triton kernel, inside the network, in the interpreter or on the GPU."""
    pytest.importorskip("triton")
    for operation in OPERATIONS.values():
        if "triton" not in operation.implementations:
            monkeypatch.setattr(operation, "implementations", {})
            continue
        kernel = replace(operation.implementations["triton"], devices=("cpu", "cuda"))
        monkeypatch.setattr(operation, "implementations", {"triton": kernel})
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model, x = build().to(device), picture[:1, :, :, :16].to(device)
    with torch.no_grad():
        expected = model(x)
        assert error([flic_kernels.accelerate(model)(x)], [expected]) < 1e-5


def test_compiles_whole(picture):
    model = flic_kernels.accelerate(build())
    with torch.no_grad():
        expected = model(picture)
        torch._dynamo.reset()
        compiled = torch.compile(model, fullgraph=True, backend="eager")
        assert error([compiled(picture)], [expected]) < 1e-6


def test_flic(small_model, picture):
    model = copy.deepcopy(small_model)
    with torch.no_grad():
        expected = model(picture)
        out = flic_kernels.accelerate(model)(picture)
    assert any("forward" in m.__dict__ for m in model.modules())
    assert error([out["x_hat"]], [expected["x_hat"]]) < 1e-5
    for name in ("means", "scales"):
        assert error([out["para"][name]], [expected["para"][name]]) < 1e-5


def test_flic_compiles_whole(small_model):
    model = copy.deepcopy(small_model)
    x = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = model(x)["x_hat"]
        flic_kernels.accelerate(model)
        torch._dynamo.reset()
        compiled = torch.compile(model, fullgraph=True, backend="eager")
        assert error([compiled(x)["x_hat"]], [expected]) < 1e-5


def test_strangers_are_refused():
    with pytest.raises(
        ValueError, match=r"Sequential is not a FLIC network: looked for FAT blocks"
    ):
        flic_kernels.accelerate(nn.Sequential(nn.Conv2d(3, 3, 1)))
    block = FAT_Block(8, 4, "W", window=2, modulation=4)
    del block.conv1_2
    with pytest.raises(ValueError, match="has no conv1_2"):
        flic_kernels.accelerate(nn.Sequential(block))
    block = FAT_Block(8, 4, "W", window=2, modulation=4)
    block.trans_block.qkv = nn.Linear(8, 8)
    with pytest.raises(ValueError, match=r"qkv.weight is \[8, 8\]"):
        flic_kernels.accelerate(nn.Sequential(block))
    assert "forward" not in block.__dict__
