"""The packages' own loading: modules on first use, and libraries that do not fit."""

import re
import sys
import zlib

import pytest
from native_builds import build, compiler
from places import CSRC, NATIVE
from processes import in_python

from flic_kernels import native

COMPILER = compiler("g++", "c++", "clang++")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler on the path")


def test_modules_load_on_first_use():
    printed = in_python("""
import sys, flic_kernels
lazy = ("rans", "rans.batch", "rans.tables", "exact")
print([name for name in lazy if f"flic_kernels.{name}" in sys.modules])
assert flic_kernels.native.library.cache_info().currsize == 0
from pathlib import Path
flic_kernels.native._FOLDER = Path("/nonexistent")
for name in flic_kernels.__all__:
    assert name in dir(flic_kernels) and getattr(flic_kernels, name), name
print(flic_kernels.rans.Encoder.__name__, flic_kernels.exact.ExactEngine.__name__)
try:
    flic_kernels.rans.gaussian_tables()
except ImportError as error:
    print(error)
try:
    flic_kernels.rens
except AttributeError as error:
    print(error)
""").splitlines()
    assert printed[:2] == ["[]", "Encoder ExactEngine"]
    assert "libflic_kernels.so is not built" in printed[2]
    assert printed[3] == "module 'flic_kernels' has no attribute 'rens'"


@needs_compiler
@pytest.mark.parametrize("loader", ["library", "cuda_library"])
@pytest.mark.parametrize("source", ["", 'extern "C" int flic_abi() { return -1; }'])
def test_a_library_of_another_version_is_refused(tmp_path, monkeypatch, loader, source):
    name = {"library": "libflic_kernels", "cuda_library": "libflic_kernels_cuda"}[loader]
    (tmp_path / "old.cpp").write_text(source)
    visible = ["-fvisibility=default"]
    build(tmp_path / f"{name}.so", [tmp_path / "old.cpp"], visible, (COMPILER,), ["-shared"])
    monkeypatch.setattr(native, "_FOLDER", tmp_path)
    with pytest.raises(
        native.NativeLibraryMissing, match=rf"{name}.so is from another.*make build"
    ):
        getattr(native, loader).__wrapped__()


# The interface's number and the CRC-32 of its declarations. Where this fails, raise the number in
# csrc/base/abi.h and in native.py, unless only the wording changed, and put the new values here.
INTERFACE = (6, 3498566675)


def test_a_changed_interface_has_a_new_number():
    declarations = []
    for path in sorted(CSRC.rglob("*")):
        if path.suffix in (".cpp", ".cu"):
            declarations += re.findall(r"^FLIC_API [^{]*", path.read_text(), re.MULTILINE)
    structures = (
        ("rans/stream.h", "GroupRecord"),
        ("rans/warp.h", "WarpPush"),
        ("rans/core.h", "TablesView"),
        ("cpu/fat_block/fat_block.h", "FATShape"),
        ("cpu/fat_block/fat_block.h", "FATParameters"),
        ("cpu/fused_linear.cpp", "Shape"),
        ("cpu/fused_linear.cpp", "Parameters"),
        ("cpu/fused_linear.cpp", "Gradients"),
        ("cpu/fat_block/fat_block.h", "FATGradients"),
    )
    for path, name in structures:
        declarations += re.findall(
            rf"^struct {name} {{.*?^}};", (CSRC / path).read_text(), re.M | re.S
        )
    assert len(declarations) > 30
    text = " ".join(" ".join(sorted(declarations)).split())
    assert (native._ABI, zlib.crc32(text.encode())) == INTERFACE


@needs_compiler
@pytest.mark.skipif(sys.platform != "linux", reason="needs LD_PRELOAD")
def test_the_exact_engine_makes_do_with_fewer_threads(tmp_path):
    preloaded = build(
        tmp_path / "few_threads.so",
        [NATIVE / "few_threads.cpp"],
        ["-fvisibility=default"],
        (COMPILER,),
        ["-shared", "-ldl"],
    )
    printed = in_python(
        """
import ctypes
from exact_models import bits, latents, model, run
from flic_kernels.exact import ExactEngine

def threads():
    status = open("/proc/self/status").read()
    return int(status.split("Threads:")[1].split()[0])

net = model("narrow")
z, y = latents(net.config, 8, 16)
expected = bits(run(ExactEngine(net.state_dict(), threads=1), z, y))
for allowed in (2, 0):
    ctypes.CDLL(None).allow_threads(allowed)
    before = threads()
    engine = ExactEngine(net.state_dict(), threads=6)
    same = bits(run(engine, z, y)) == expected
    print(threads() - before, same)
    del engine
""",
        LD_PRELOAD=str(preloaded),
    )
    assert printed.splitlines() == ["2 True", "0 True"]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_library_computes_on_the_threads_of_pytorch():
    printed = in_python(
        """
import ctypes, os
import torch
from flic_kernels import fused_linear, native

def threads():
    return len(os.listdir("/proc/self/task"))

torch.set_num_threads(2)
x, weight = torch.rand(4096, 64), torch.rand(64, 64)
(x @ weight).exp()
before = threads()
fused_linear(x, weight, impl="cpu")
added = threads() - before
print(added if hasattr(ctypes.CDLL(torch._C.__file__), "GOMP_parallel") else 0)
"""
    )
    assert printed.split() == ["0"]
