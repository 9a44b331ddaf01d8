"""The exact engine built otherwise gives the same bits; what could change them is refused."""

import ctypes
import platform
import re
import subprocess

import numpy as np
import pytest
import torch
from exact_models import CONFIGS, bits, dump, engines, latents, model, run
from native_builds import (
    build,
    compiler,
    exact_full_program,
    exact_library,
    exact_run_program,
    plain_library,
    soft_fma_program,
)
from PIL import Image
from places import CSRC, ROOT
from rans_cases import latents as rans_latents

from flic.codec.opening import open_codec
from flic.coding.request import Request, silent
from flic.format.container import Container, unpack
from flic.format.tile_grid import Box
from flic_kernels import exact, interface, native, rans
from flic_kernels.exact import ExactEngine

X86 = platform.machine() in ("x86_64", "AMD64")
COMPILER = compiler("g++", "c++", "clang++")

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler on the path")


def results(config):
    net = model(config)
    z, y = latents(net.config, 8, 16)
    return [bits(run(engine, z, y)) for engine in engines(net.state_dict(), threads=(2,))]


def variants():
    """Name, compiler command, flags."""
    # With -mfma the scalar kernels use the hardware's fma, and there is something to contract.
    yield "contracted", (COMPILER,), ["-O3", "-ffp-contract=fast", *(["-mfma"] if X86 else [])]
    yield "O1", (COMPILER,), ["-O1"]
    if compiler("clang++"):
        yield "clang", ("clang++",), ["-O3", "-ffp-contract=fast"]


@pytest.mark.parametrize(
    ("command", "flags"),
    [
        pytest.param(command, flags, id=name, marks=[pytest.mark.slow] * (name != "contracted"))
        for name, command, flags in variants()
    ],
)
def test_same_bits_from_another_build(tmp_path, monkeypatch, command, flags):
    expected = [results("odd"), results("narrow")]
    other = interface.declared(ctypes.CDLL(str(exact_library(tmp_path, flags, command))))
    monkeypatch.setattr(native, "library", lambda: other)
    assert [results("odd"), results("narrow")] == expected


def test_same_bits_in_plain_cpp_without_threads(tmp_path, monkeypatch):
    def stream():
        tables = rans.gaussian_tables()
        y, means, scales = rans_latents(20_000, 1)
        indexes, centers = rans.gaussian_indexes(means, scales, tables)
        data = rans.encode(y - centers, indexes, tables)
        assert torch.equal(rans.decode(data, indexes, tables), y - centers)
        return data

    net = model("odd")
    z, y = latents(net.config, 8, 16)
    expected = bits(run(ExactEngine(net.state_dict(), threads=2), z, y)), stream()
    path = plain_library(tmp_path, ["-O1", "-ffp-contract=off"], (compiler("clang++") or COMPILER,))
    plain = interface.declared(ctypes.CDLL(str(path)))
    assert plain.flic_isa_best() == 0
    coders = [open_codec("tiny").coder]
    monkeypatch.setattr(native, "library", lambda: plain)
    assert (bits(run(ExactEngine(net.state_dict(), threads=2), z, y)), stream()) == expected
    coders.append(open_codec("tiny").coder)
    pixels = np.random.default_rng(0).integers(0, 256, (70, 200, 3), np.uint8)
    frame = Container(200, 70, bytes.fromhex(coders[0].fingerprint), ())
    for here, there in (coders, coders[::-1]):
        data = here.begin(Request(Image.fromarray(pixels), None)).file(frame, 1.0, silent)
        pictures = [
            np.asarray(each.image(unpack(data), Box(0, 0, 70, 200), "float32", silent), int)
            for each in (here, there)
        ]
        assert np.abs(pictures[0] - pictures[1]).max() <= 1
    needed = subprocess.run(["nm", "-D", "-u", path], capture_output=True, text=True, check=True)
    assert not re.findall(r"pthread_\w+|std::thread|_ZNSt6thread\w+|fma\w*", needed.stdout)


@pytest.mark.slow
def test_same_bits_on_aarch64(tmp_path):
    cross, emulator = compiler("aarch64-linux-gnu-g++"), compiler("qemu-aarch64")
    if not cross or not emulator:
        pytest.skip("needs aarch64-linux-gnu-g++ and qemu-aarch64")
    flags = ["-O3", "-ffp-contract=fast"]
    program = exact_run_program(tmp_path, flags, (cross,), ["-static"])
    for config in CONFIGS:
        net = model(config)
        z, y = latents(net.config, 8, 16)
        expected = run(ExactEngine(net.state_dict(), threads=2), z, y)
        command = [emulator, program, "2"]
        done = subprocess.run(command, input=dump(net.state_dict(), z, y), capture_output=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout == b"".join(bits(expected).values())


@pytest.mark.parametrize("function", ["exp", "gelu"])
def test_functions_have_the_same_bits_and_little_error(function):
    rng = np.random.default_rng(1)
    any_bits = rng.integers(0, 2**32, 200_000, dtype=np.uint64).astype(np.uint32).view(np.float32)
    usual = rng.normal(0, 6, 200_000).astype(np.float32)
    x = np.concatenate([any_bits[np.isfinite(any_bits)], usual, np.float32([0.0, -0.0, -87, -88])])
    if function == "exp":
        x = -np.abs(x)
    x = torch.from_numpy(x)
    first, *others = (exact.apply_function(function, x, isa) for isa in native.available_isas())
    for other in others:
        assert torch.equal(first.view(torch.int32), other.view(torch.int32))
    wide = x.double()
    if function == "exp":
        expected = torch.exp(wide.clamp(min=-87))
        assert ((first - expected).abs() <= 1e-7 * expected).all()
    else:
        usual = (x.abs() > 1e-30) & (x.abs() < 1e30)
        expected = 0.5 * wide * torch.erfc(-wide * 0.5**0.5)
        assert ((first - expected).abs()[usual] <= 2.5e-7 * wide.abs()[usual]).all()


@pytest.mark.skipif(not X86, reason="the program compares with x86-64 hardware")
def test_soft_fma_rounds_as_the_hardware(tmp_path):
    if "avx2" not in native.available_isas():
        pytest.skip("this machine has no fma")
    program = soft_fma_program(tmp_path, command=(COMPILER,))
    done = subprocess.run([program, "10000000"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_exp_and_gelu_on_a_16th_of_all_inputs(tmp_path):
    done = subprocess.run([exact_full_program(tmp_path), "15", "2"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


# What -ffast-math consists of, and what else lets a compiler change a float32 result.
FORBIDDEN = (
    "-ffast-math|-Ofast|-funsafe-math-optimizations|-fassociative-math|-freciprocal-math|"
    "-ffinite-math-only|-fno-signed-zeros|-fno-trapping-math|-frounding-math|-ffp-contract=fast|"
    "-ffp-contract=on|-march=|-mtune=|-mfpmath=|-use_fast_math|--use_fast_math|-fmad=true|-ftz=true|"
    "-prec-div=false|-prec-sqrt=false|-flto"
)


def test_the_build_allows_no_inexact_arithmetic():
    text = (ROOT / "setup.py").read_text()
    assert not re.findall(FORBIDDEN, text)
    for needed in ("-ffp-contract=off", "-fmad=false", "-ftz=false", "-prec-div=true"):
        assert needed in text
    lanes = [CSRC / "simd" / f"{name}.h" for name in ("lane", "lanes", "soft_fma", "functions")]
    for source in [*(CSRC / "exact").iterdir(), *lanes]:
        text = source.read_text()
        assert not re.search(r"#\s*pragma\s+(GCC\s+optimize|STDC|clang\s+fp)", text), source
        assert not re.search(r"rsqrt\d*_ps|rcp\d*_ps|__expf|__fdividef|std::exp|\bexpf\(", text)


def test_fast_math_does_not_compile(tmp_path):
    source = CSRC / "exact/exact_kernels_simd.cpp"
    with pytest.raises(RuntimeError, match="fast-math"):
        build(tmp_path / "x.so", [source], ["-O1", "-ffast-math"], (COMPILER,), ["-shared"])
