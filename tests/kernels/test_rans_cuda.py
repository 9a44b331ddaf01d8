"""The GPU coder. Its code runs here on an emulated warp (tests/native/warp_emulator.cpp), which
checks its results and its control flow, not CUDA's memory model; on a CUDA device where there is
one."""

import contextlib
import ctypes
import gc
import shutil
import subprocess
import weakref

import numpy as np
import pytest
import torch
from places import CSRC, NATIVE, ROOT
from rans_cases import draw, latents, small_tables
from rans_golden import NAMES, case

from flic_kernels import interface, native, rans
from flic_kernels.rans import cuda as rans_cuda
from flic_kernels.rans import reference as rans_reference


@pytest.fixture(scope="module")
def emulator(tmp_path_factory):
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    library = tmp_path_factory.mktemp("emulator") / "warp_emulator.so"
    command = [compiler, "-O2", "-std=c++17", "-Wall", "-Wextra", "-fPIC", "-shared", f"-I{CSRC}"]
    subprocess.run([*command, NATIVE / "warp_emulator.cpp", "-o", library], check=True)
    return interface.declared(ctypes.CDLL(str(library)))


@pytest.fixture(params=["emulated", "cuda"])
def device(request, monkeypatch):
    if request.param == "cuda":
        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")
        return torch.device("cuda")
    library = request.getfixturevalue("emulator")
    monkeypatch.setattr(native, "cuda_library", lambda: library)
    monkeypatch.setattr(rans_cuda, "_stream", lambda device: None)
    return torch.device("cpu")


def cpu_stream(pushes, **options):
    encoder = rans.Encoder(**options)
    for push in pushes:
        encoder.push(*push)
    return encoder.finish()


def pushes_of(tables, count, seed):
    first = draw(tables, count // 3, seed)
    return [(*first, tables), (*draw(tables, count - count // 3, seed + 1), tables)]


@pytest.mark.parametrize("lanes", [None, 1, 2, 8, 32])
@pytest.mark.parametrize("groups", [None, 2])
@pytest.mark.parametrize("count", [0, 1, 33, 700])
def test_batches_equal_the_cpu_coder(device, lanes, groups, count):
    tables = small_tables()
    pictures = [pushes_of(tables, count, 10 * i) for i in range(3)]
    expected = [cpu_stream(pushes, lanes=lanes, groups=groups) for pushes in pictures]
    encoder = rans_cuda.CudaEncoder(3, lanes=lanes, groups=groups)
    batches = []
    for p in range(2):
        symbols, indexes = (torch.stack([pic[p][i] for pic in pictures]) for i in range(2))
        batches.append((symbols.to(device), indexes.to(device)))
        encoder.push(*batches[-1], tables)
    streams = encoder.finish()
    assert streams == expected
    decoder = rans_cuda.CudaDecoder(streams, device)
    for symbols, indexes in batches:
        assert torch.equal(decoder.pull(indexes, tables), symbols)
    decoder.close()


@pytest.mark.parametrize("lanes", [None, 4])
def test_every_picture_of_a_batch_gets_its_own_groups(device, monkeypatch, lanes):
    monkeypatch.setattr(rans_cuda, "_SYMBOLS_PER_GROUP", 768)
    monkeypatch.setattr(rans_reference, "SYMBOLS_PER_GROUP", 768)
    # Zeros of the first table cost next to nothing; all else is escaped, about 6 bytes each. The
    # second table's symbols give every group a tail, so fewer groups have another payload.
    tables = rans.Tables.from_pmfs([np.array([32700]), np.full(16, 1 / 17)], [0, -8])
    count = 3072
    escapes = [*range(0, 750, 50), 2100, count]
    indexes = (torch.arange(count) % 16 == 5).int()
    symbols = torch.zeros(len(escapes), count, dtype=torch.int32)
    for picture, number in zip(symbols, escapes, strict=True):
        picture[:number] = 1 << 29
    encoder = rans_cuda.CudaEncoder(len(escapes), lanes=lanes)
    encoder.push(symbols.to(device), indexes.expand(symbols.shape).contiguous().to(device), tables)
    streams = encoder.finish()
    for stream, mine in zip(streams, symbols.tolist(), strict=True):
        assert stream == rans_reference.encode([(mine, indexes.tolist(), tables)], lanes)
    kinds = {(1 << (stream[0] & 7), 1 << (stream[0] >> 3)) for stream in streams}
    assert kinds >= ({(4, 1), (4, 2), (4, 4)} if lanes else {(1, 1), (16, 1), (32, 2), (32, 4)})


def test_after_an_error_the_encoder_is_empty(device):
    tables = small_tables()
    symbols, indexes = (tensor.to(device)[None] for tensor in draw(tables, 50, 1))
    encoder = rans_cuda.CudaEncoder(1)
    encoder.push(symbols, indexes + 100, tables)
    with pytest.raises(IndexError):
        encoder.finish()
    encoder.push(symbols, indexes, tables)
    assert encoder.finish() == [rans.encode(symbols[0].cpu(), indexes[0].cpu(), tables)]


def test_tables_live_until_they_are_used(device):
    tables = small_tables()
    symbols, indexes = draw(tables, 50, 1)
    expected = rans.encode(symbols, indexes, tables)
    encoder = rans_cuda.CudaEncoder(1)
    encoder.push(symbols.to(device)[None], indexes.to(device)[None], tables)
    alive = weakref.ref(tables)
    del tables
    gc.collect()
    assert alive() is not None
    assert encoder.finish() == [expected]
    gc.collect()
    assert alive() is None


def test_every_launch_is_on_the_tensors_device(emulator, monkeypatch):
    """Pretends that CPU tensors are on a second device; a launch outside its guard fails."""
    current, launches = [], []

    @contextlib.contextmanager
    def guard(device):
        current.append(device)
        yield
        current.pop()

    class Library:
        def __getattr__(self, name):
            assert current
            launches.append(name.removeprefix("flic_rans_cuda_"))
            return getattr(emulator, name)

    monkeypatch.setattr(native, "cuda_library", Library)
    monkeypatch.setattr(rans_cuda, "_stream", lambda device: None)
    monkeypatch.setattr(rans_cuda, "_current", guard)
    tables = rans.gaussian_tables()
    y, means, scales = latents(64, 1)
    indexes, centers = rans_cuda.gaussian_indexes(means, scales, tables)
    encoder = rans_cuda.CudaEncoder(1)
    encoder.push((y - centers)[None], indexes[None], tables)
    decoder = rans_cuda.CudaDecoder(encoder.finish(), torch.device("cpu"))
    decoder.pull(indexes[None], tables)
    decoder.close()
    assert launches == ["gaussian_indexes", "encode", "decode", "close"]


def test_the_guard_makes_the_device_current(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device", lambda device: ("current", device))
    second = torch.device("cuda:1")
    assert rans_cuda._current(second) == ("current", second)
    with rans_cuda._current(torch.device("cpu")):
        pass


def test_a_batch_comes_back_in_one_copy(device, monkeypatch):
    tables = small_tables()
    symbols, indexes = (tensor.to(device).reshape(8, -1) for tensor in draw(tables, 800, 1))
    copies, gather = [], torch.cat
    monkeypatch.setattr(torch, "cat", lambda parts: copies.append(len(parts)) or gather(parts))
    encoder = rans_cuda.CudaEncoder(8)
    encoder.push(symbols, indexes, tables)
    assert len(encoder.finish()) == 8
    assert copies == [8 * 2 + 1]


@pytest.mark.parametrize("symbol_type", [torch.int8, torch.int16])
@pytest.mark.parametrize("index_type", [torch.int32, torch.uint16])
def test_element_types(device, symbol_type, index_type):
    tables = small_tables()
    symbols, indexes = draw(tables, 500, 3, uniform=0)
    symbols = symbols.clamp(-128, 127)
    encoder = rans_cuda.CudaEncoder(1)
    narrow = indexes.to(index_type).to(device)[None]
    encoder.push(symbols.to(symbol_type).to(device)[None], narrow, tables)
    streams = encoder.finish()
    assert streams == [rans.encode(symbols, indexes, tables)]
    decoder = rans_cuda.CudaDecoder(streams, device)
    assert torch.equal(decoder.pull(narrow, tables)[0].cpu(), symbols)
    decoder.close()


def test_gaussian_latents(device):
    tables = rans.gaussian_tables()
    y, means, scales = latents(20_000, 4)
    expected = rans.gaussian_indexes(means, scales, tables)
    indexes, centers = rans_cuda.gaussian_indexes(means.to(device), scales.to(device), tables)
    assert torch.equal(indexes.cpu(), expected[0]) and torch.equal(centers.cpu(), expected[1])
    symbols = y.to(device) - centers
    encoder = rans_cuda.CudaEncoder(1)
    encoder.push(symbols[None], indexes[None], tables)
    data = encoder.finish()[0]
    assert data == rans.encode(y - expected[1], expected[0], tables)
    decoder = rans_cuda.CudaDecoder([data], device)
    assert torch.equal(decoder.pull(indexes[None], tables)[0], symbols)
    decoder.close()


@pytest.mark.parametrize("name", NAMES)
def test_golden_streams(device, name):
    stream, pushes, lanes, groups = case(name)
    encoder = rans_cuda.CudaEncoder(1, lanes=lanes, groups=groups)
    decoder = rans_cuda.CudaDecoder([stream], device)
    for symbols, indexes, tables in pushes:
        symbols, indexes = symbols.to(device)[None], indexes.to(device)[None]
        encoder.push(symbols, indexes, tables)
        assert torch.equal(decoder.pull(indexes, tables), symbols)
    decoder.close()
    if pushes:
        assert encoder.finish() == [stream]


def test_what_is_not_finite_is_refused_at_the_end(device):
    tables = rans.gaussian_tables()
    means = torch.tensor([0.0, float("nan"), float("inf")], device=device)
    indexes, centers = rans_cuda.gaussian_indexes(means, torch.ones_like(means), tables)
    assert indexes.tolist()[1:] == [-1, -1]
    encoder = rans_cuda.CudaEncoder(1)
    encoder.push(centers[None], indexes[None], tables)
    with pytest.raises(IndexError):
        encoder.finish()


def test_damage_raises_or_decodes_as_on_the_cpu(device):
    tables = small_tables()
    symbols, indexes = draw(tables, 30, 7)
    data = rans.encode(symbols, indexes, tables)

    def on_device(stream):
        decoder = rans_cuda.CudaDecoder([stream], device)
        result = decoder.pull(indexes.to(device)[None], tables)
        decoder.close()
        return result[0].cpu().tolist()

    def outcome(function, stream):
        try:
            return function(stream)
        except rans.CorruptStream:
            return None

    damaged = [data[:size] for size in range(len(data))] + [data + b"\0"]
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        damaged.append(bytes(flipped))
    for stream in damaged:
        expected = outcome(lambda s: rans.decode(s, indexes, tables).tolist(), stream)
        assert outcome(on_device, stream) == expected


def test_a_missing_library_is_said_clearly(monkeypatch, tmp_path):
    monkeypatch.setattr(native, "_FOLDER", tmp_path)
    with pytest.raises(ImportError, match="nvcc"):
        native.cuda_library.__wrapped__()
    with pytest.raises(ImportError, match="pip install"):
        native.library.__wrapped__()


def test_the_cuda_file_compiles():
    """The library that was built loads and has the launchers; else nvcc at least accepts it."""
    if shutil.which("nvcc") is None:
        pytest.skip("nvcc is not installed: the CUDA coder was not compiled")
    if not (ROOT / "flic_kernels" / "libflic_kernels_cuda.so").exists():
        command = ["nvcc", "-std=c++17", f"-I{CSRC}", "-arch=sm_90", "-Werror=all-warnings", "-ptx"]
        subprocess.run([*command, "-o", "/dev/null", CSRC / "rans/rans.cu"], check=True)
        return
    library = native.cuda_library()
    for name in ("encode", "decode", "close", "gaussian_indexes"):
        assert getattr(library, f"flic_rans_cuda_{name}")
