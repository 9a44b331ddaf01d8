"""The exact engine on CUDA: on a device if there is one, and on tests/native/cuda, which runs the
same calls on the host and checks their results and order, not CUDA itself; and its PTX."""

import contextlib
import ctypes
import re
import shutil
import subprocess
from types import SimpleNamespace

import pytest
import torch
from exact_models import CONFIGS, bits, latents, model, run, slices
from native_builds import compiler, exact_cuda_library
from places import CSRC, ROOT

from flic_kernels import interface, native
from flic_kernels.exact import ExactEngine

COMPILER = compiler("g++", "c++", "clang++")


def visible(results):
    """What every engine gives: all but the hidden activations."""
    return {name: value for name, value in results.items() if not name.startswith("hidden")}


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    if COMPILER is None:
        pytest.skip("no C++ compiler on the path")
    return interface.declared(
        ctypes.CDLL(str(exact_cuda_library(tmp_path_factory.mktemp("cuda"), (COMPILER,))))
    )


@pytest.fixture
def emulated(library, monkeypatch):
    """CUDA calls reach the host's library, streams being numbers; gives the library."""
    streams = [0]

    @contextlib.contextmanager
    def on(stream):
        streams.append(stream)
        yield
        streams.pop()

    monkeypatch.setattr(native, "cuda_library", lambda: library)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(
        torch.cuda, "current_stream", lambda device: SimpleNamespace(cuda_stream=streams[-1])
    )
    monkeypatch.setattr(torch.cuda, "Stream", lambda: 64)
    monkeypatch.setattr(torch.cuda, "stream", on)
    return library


@pytest.fixture(params=["emulated", "cuda"])
def cuda(request):
    if request.param == "emulated":
        request.getfixturevalue("emulated")
        return
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    try:
        native.cuda_library()
    except native.NativeLibraryMissing as missing:
        pytest.skip(str(missing))


@pytest.mark.parametrize("config", CONFIGS)
def test_the_same_bits(cuda, config):
    net = model(config)
    state = net.state_dict()
    engine, reference = ExactEngine(state, isa="cuda"), ExactEngine(state)
    assert engine.fingerprint == reference.fingerprint
    for seed, size in enumerate([(8, 16), (8, 16), (16, 8)]):
        z, y = latents(net.config, *size, seed=seed)
        expected = bits(visible(run(reference, z, y)))
        with torch.cuda.stream(torch.cuda.Stream()) if seed else contextlib.nullcontext():
            assert bits(visible(run(engine, z, y))) == expected


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_same_bits_for_the_base_model():
    net = model("base")
    z, y = latents(net.config, 16, 24)
    state = net.state_dict()
    expected = bits(visible(run(ExactEngine(state), z, y)))
    assert bits(visible(run(ExactEngine(state, isa="cuda"), z, y))) == expected


def test_graphs_are_made_once_a_size_and_slice(emulated):
    net = model("narrow")
    engine = ExactEngine(net.state_dict(), isa="cuda")

    def graphs(*size):
        before = [emulated.fake_cuda_graphs(ran) for ran in (False, True)]
        run(engine, *latents(net.config, *size))
        return [emulated.fake_cuda_graphs(ran) - before[ran] for ran in (False, True)]

    assert graphs(8, 16) == [2, 2]  # made and run: two slices
    assert graphs(8, 16) == [0, 2]
    assert graphs(16, 8) == [2, 2]
    assert graphs(8, 16) == [0, 2]
    assert graphs(8, 8) == [2, 2]  # the third size: the one not used longest is dropped
    assert graphs(8, 16) == [0, 2]
    assert graphs(16, 8) == [2, 2]


def test_nothing_leaves_the_device_between_hyper_synthesis_and_t_ca(emulated):
    net = model("odd")
    engine = ExactEngine(net.state_dict(), isa="cuda")
    assert emulated.fake_cuda_keeps_memory()
    z, y = latents(net.config, 8, 16)
    copied = emulated.fake_cuda_copied
    copied.restype = ctypes.c_int64
    before = copied()
    picture = engine.open(z[0])
    assert copied() - before == 4 * (z.numel() + 2)  # with the two flags
    found = bits(slices(engine, picture, y))
    picture = engine.begin(*(features[0] for features in engine.hyper(z)))
    assert found == bits(slices(engine, picture, y))


def test_kept_memory_is_given_up_where_memory_is_short(emulated):
    used = emulated.fake_cuda_used
    used.restype = ctypes.c_int64
    before = used()
    net = model("narrow")
    state = net.state_dict()
    engine = ExactEngine(state, isa="cuda")
    means, scales = (torch.randn(net.config.latent, 16, 8) for _ in range(2))
    _, y = latents(net.config, 16, 8)
    weights = used()
    list(engine.slices_of(means, scales, y[0]))
    kept = used() - weights
    assert kept > 0
    try:
        emulated.fake_cuda_limit(ctypes.c_int64(weights + 3 * kept // 2))
        means, scales, y = (x.transpose(-2, -1) for x in (means, scales, y))
        for ours, theirs in zip(
            engine.slices_of(means, scales, y[0]),
            ExactEngine(state).slices_of(means, scales, y[0]),
            strict=True,
        ):
            assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
        emulated.fake_cuda_limit(ctypes.c_int64(weights + kept // 2))
        with pytest.raises(MemoryError):
            engine.begin(means.transpose(-2, -1), scales.transpose(-2, -1))
    finally:
        emulated.fake_cuda_limit(ctypes.c_int64(0))
    del engine
    assert used() == before


def test_pictures_take_turns(cuda):
    net = model("odd")
    z, y = latents(net.config, 8, 16, batch=2)
    engine = ExactEngine(net.state_dict(), isa="cuda")
    means, scales = engine.hyper(z)
    alone = [list(engine.slices_of(means[i], scales[i], y[i])) for i in range(2)]
    turns = zip(*(engine.slices_of(means[i], scales[i], y[i]) for i in range(2)), strict=True)
    for s, pair in enumerate(turns):
        for i in range(2):
            assert all(torch.equal(a, b) for a, b in zip(pair[i], alone[i][s], strict=True))


def test_what_is_not_finite_is_found(cuda):
    net = model("narrow")
    z, y = latents(net.config, 8, 8)
    state = net.state_dict()
    expected = bits(visible(run(ExactEngine(state), z, y)))
    engine = ExactEngine(state, isa="cuda")
    huge = torch.full((net.config.latent, 8, 8), 3e38)
    for _ in range(2):
        with pytest.raises(ValueError, match="T-CA gave NaN or infinity"):
            list(engine.slices_of(huge, huge, y[0]))
        assert bits(visible(run(engine, z, y))) == expected
    with pytest.raises(ValueError, match="hyper-synthesis gave NaN or infinity"):
        engine.hyper(torch.full_like(z, 3e38))


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc on the path")
def test_the_ptx_holds_no_inexact_instruction(tmp_path):
    text = (ROOT / "setup.py").read_text()
    flags = "-fmad=false -ftz=false -prec-div=true -prec-sqrt=true"
    assert flags in text
    ptx = tmp_path / "kernels.ptx"
    source = CSRC / "exact" / "cuda_engine.cu"
    command = ["nvcc", "-O3", "-std=c++17", f"-I{CSRC}", *flags.split(), "-ptx", source, "-o", ptx]
    subprocess.run(command, check=True, capture_output=True)
    code = ptx.read_text()
    assert not re.findall(r"\.ftz|\.approx|mad\.\w*\.?f32|\.full\.f32", code)
    for operation in ("fma", "mul", "add", "sub", "div", "sqrt"):
        assert f"{operation}.rn.f32" in code
        assert not re.findall(rf"\b{operation}\.f32", code)  # rounding left to the compiler
