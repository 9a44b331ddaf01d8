"""accelerate and restore, on the published network's interfaces and on flic.FLIC."""

from __future__ import annotations

import copy
import io
from dataclasses import replace

import pytest
import torch
from operation_checks import error
from processes import in_python
from published_network import FAT_Block, PublishedNetwork
from torch import nn

import flic_kernels
from flic_kernels.ops import OPERATIONS

pytestmark = pytest.mark.usefixtures("one_thread")


def build():
    torch.manual_seed(0)
    return PublishedNetwork().eval()


def changed(model):
    """The modules whose forward is not their class's own."""
    return [m for m in model.modules() if type(m).forward.__module__ == "flic_kernels.acceleration"]


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
    # three FAT blocks, a T-CA layer, two residual blocks, g_a and g_s
    assert len(changed(model)) == 8
    assert flic_kernels.restore(model) is model
    assert not changed(model)
    assert [type(m) for m in model.modules()] == [type(m) for m in build().modules()]
    assert torch.equal(model(picture), expected)


def test_twice_is_once_and_a_copy_is_its_own(picture):
    model = flic_kernels.accelerate(flic_kernels.accelerate(build()))
    twin = copy.deepcopy(model)
    with torch.no_grad():
        twin.g_a[1].conv1_1.weight.mul_(2)
        assert not torch.allclose(twin(picture), model(picture))
    flic_kernels.restore(model)
    assert len(changed(twin)) == 8 and not changed(model)


def test_a_replica_computes_with_its_own_weights(picture):
    """DataParallel's replicas: copies of a module's __dict__ that get other parameters."""
    model = flic_kernels.accelerate(build())
    block = model.g_a[1]
    replica = block._replicate_for_data_parallel()
    conv = replica.conv1_2 = copy.deepcopy(block.conv1_2)
    with torch.no_grad():
        conv.weight.zero_()
        conv.bias.zero_()
        x = torch.rand(1, 8, 16, 16)
        assert torch.equal(replica(x), x)
        assert not torch.equal(block(x), x)


def test_saved_and_loaded_whole_it_stays_accelerated(picture):
    model = flic_kernels.accelerate(build())
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    assert len(changed(loaded)) == 8
    with torch.no_grad():
        assert torch.equal(loaded(picture), model(picture))
    assert not changed(flic_kernels.restore(loaded))
    assert len(changed(model)) == 8


@pytest.mark.parametrize("threads", [1, 2])
def test_trains_on_large_pictures(threads):
    """On the published blocks' own 1x1 convolution with stride 2 this ended in a crash:

    x = torch.randn(1, 3, 256, 256).contiguous(memory_format=torch.channels_last)
    torch.nn.Conv2d(3, 24, 1, stride=2)(x).sum().backward()  # a few times over; torch 2.14.1
    """
    program = f"""
import torch
from processes import in_python
from published_network import PublishedNetwork
import flic_kernels

torch.set_num_threads({threads})
torch.manual_seed(0)
model = PublishedNetwork()
x = torch.rand(1, 3, 256, 256)
model(x).square().mean().backward()
wanted = model.g_a[0].skip.weight.grad
flic_kernels.accelerate(model)
for _ in range(5):
    model.zero_grad()
    model(x).square().mean().backward()
assert torch.allclose(model.g_a[0].skip.weight.grad, wanted, rtol=1e-3, atol=1e-6)
"""
    in_python(program)


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
    """It consists of the fused operations already."""
    model = copy.deepcopy(small_model)
    with torch.no_grad():
        with flic_kernels.use("reference"):
            expected = model(picture)
        out = flic_kernels.accelerate(model)(picture)
    assert not changed(model)
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
    assert type(block) is FAT_Block
