"""The exact engine's CUDA twin: its kernels as host code, its PTX, and on a device if any."""

import re
import shutil
import subprocess

import pytest
import torch
from exact_models import CONFIGS, bits, dump, latents, model, run
from native_builds import CSRC, ROOT, compiler, exact_device_program

from flic_kernels import native
from flic_kernels.exact import ExactEngine

COMPILER = compiler("g++", "c++", "clang++")


def visible(results):
    """What every engine gives: all but the hidden activations."""
    return {name: value for name, value in results.items() if not name.startswith("hidden")}


@pytest.fixture(scope="module")
def device_program(tmp_path_factory):
    if COMPILER is None:
        pytest.skip("no C++ compiler on the path")
    return exact_device_program(tmp_path_factory.mktemp("device"), ["-O2"], (COMPILER,))


@pytest.mark.parametrize("config", CONFIGS)
def test_device_kernels_as_host_code_give_the_same_bits(device_program, config):
    net = model(config)
    z, y = latents(net.config, 8, 16)
    expected = visible(run(ExactEngine(net.state_dict(), threads=2), z, y))
    weights = dump(net.state_dict(), z, y)
    done = subprocess.run([device_program], input=weights, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == b"".join(bits(expected).values())


def test_device_kernels_find_what_is_not_finite(device_program):
    net = model("narrow")
    state = net.state_dict()
    state["tca.TCA.layers.0.v1.weight"].fill_(3e38)
    done = subprocess.run(
        [device_program], input=dump(state, *latents(net.config, 8, 8)), capture_output=True
    )
    assert done.returncode == 1
    assert b"NaN or infinity" in done.stderr


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc on the path")
def test_the_ptx_holds_no_inexact_instruction(tmp_path):
    text = (ROOT / "setup.py").read_text()
    flags = "-fmad=false -ftz=false -prec-div=true -prec-sqrt=true"
    assert flags in text
    ptx = tmp_path / "kernels.ptx"
    source = CSRC / "exact" / "cuda_engine.cu"
    command = ["nvcc", "-O3", "-std=c++17", *flags.split(), "-ptx", source, "-o", ptx]
    subprocess.run(command, check=True, capture_output=True)
    code = ptx.read_text()
    assert not re.findall(r"\.ftz|\.approx|mad\.\w*\.?f32|\.full\.f32", code)
    for operation in ("fma", "mul", "add", "sub", "div", "sqrt"):
        assert f"{operation}.rn.f32" in code
        assert not re.findall(rf"\b{operation}\.f32", code)  # rounding left to the compiler


@pytest.fixture
def cuda():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    try:
        native.cuda_library()
    except native.NativeLibraryMissing as missing:
        pytest.skip(str(missing))


@pytest.mark.parametrize("config", [*CONFIGS, "base"])
def test_cuda_gives_the_same_bits(cuda, config):
    net = model(config)
    state = net.state_dict()
    engine, reference = ExactEngine(state, isa="cuda"), ExactEngine(state)
    assert engine.fingerprint == reference.fingerprint
    # The second picture of a size replays the first one's graphs; three sizes drop one.
    for seed, size in enumerate([(16, 24), (16, 24), (24, 16), (8, 8), (16, 24)]):
        z, y = latents(net.config, *size, seed=seed)
        expected = bits(visible(run(reference, z, y)))
        assert bits(visible(run(engine, z, y))) == expected
        with torch.cuda.stream(torch.cuda.Stream()):
            assert bits(visible(run(engine, z, y))) == expected


def test_cuda_pictures_take_turns(cuda):
    net = model("odd")
    z, y = latents(net.config, batch=2)
    engine = ExactEngine(net.state_dict(), isa="cuda")
    means, scales = engine.hyper(z)
    alone = [list(engine.slices_of(means[i], scales[i], y[i])) for i in range(2)]
    turns = zip(*(engine.slices_of(means[i], scales[i], y[i]) for i in range(2)), strict=True)
    for s, pair in enumerate(turns):
        for i in range(2):
            assert all(torch.equal(a, b) for a, b in zip(pair[i], alone[i][s], strict=True))


def test_cuda_finds_what_is_not_finite(cuda):
    net = model("narrow")
    z, y = latents(net.config, 8, 8)
    state = net.state_dict()
    expected = bits(visible(run(ExactEngine(state), z, y)))
    engine = ExactEngine(state, isa="cuda")
    huge = torch.full((net.config.latent, 8, 8), 3e38)
    for _ in range(2):
        with pytest.raises(ValueError, match="NaN or infinity"):
            list(engine.slices_of(huge, huge, y[0]))
        assert bits(visible(run(engine, z, y))) == expected
