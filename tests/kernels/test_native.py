"""The packages' own loading: modules on first use, and libraries that do not fit."""

import ctypes
import re
import subprocess
import sys

import pytest
from native_builds import build, compiler
from places import CSRC, NATIVE
from processes import in_python

from flic.coding import native_coder
from flic_kernels import interface, native
from flic_kernels.ops.fat_block import FATParameters

HEADERS = "".join(header.read_text() for header in interface.HEADERS)
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


def test_the_header_is_c_and_means_what_python_reads(tmp_path):
    """Sizes and offsets of the structures, statuses, functions: by a C compiler and by ctypes."""
    compiler_of_c = compiler("cc", "gcc", "clang")
    if compiler_of_c is None:
        pytest.skip("no C compiler on the path")
    names = re.findall(r"^} (Flic\w+);", HEADERS, re.MULTILINE)
    assert len(names) == 19
    lines = []
    for name in names:
        structure = interface.structure(name)
        lines += [f'printf("{name} %zu\\n", sizeof({name}));']
        lines += [
            f'printf("{name}.{field} %zu\\n", offsetof({name}, {field}));'
            for field, _ in structure._fields_
        ]
    lines += [f'printf("{name} %d\\n", FLIC_{name});' for name in interface.statuses()]
    program = tmp_path / "sizes.c"
    program.write_text(
        '#include <stddef.h>\n#include <stdio.h>\n#include "include/flic_kernels.h"\n'
        f"int main(void) {{ {' '.join(lines)} return 0; }}\n"
    )
    strict = ["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", f"-I{CSRC}"]
    subprocess.run([compiler_of_c, *strict, program, "-o", tmp_path / "sizes"], check=True)
    printed = subprocess.run([tmp_path / "sizes"], capture_output=True, text=True, check=True)
    expected = []
    for name in names:
        structure = interface.structure(name)
        expected.append(f"{name} {ctypes.sizeof(structure)}")
        expected += [
            f"{name}.{field} {getattr(structure, field).offset}" for field, _ in structure._fields_
        ]
    expected += [f"{name} {value}" for name, value in interface.statuses().items()]
    assert printed.stdout.splitlines() == expected


def test_python_knows_every_function_and_status():
    """All that the libraries define is in the header, and the other way around."""
    defined = set()
    for path in sorted(CSRC.rglob("*")):
        if path.suffix in (".cpp", ".cu", ".h") and path.parent.name != "include":
            defined |= set(re.findall(r"^FLIC_API [^({]*?(flic_\w+)\(", path.read_text(), re.M))
    declared = re.findall(r"^FLIC_API [^(]*?(flic_\w+)\(", HEADERS, re.M)
    assert len(declared) == len(set(declared)) > 50 and set(declared) == defined
    for name in defined - {name for name in defined if "cuda" in name}:
        assert getattr(native.library(), name).argtypes is not None, name
    asked_too_little = {"BUFFER_TOO_SMALL"}  # Python never does
    known = {"OK", *native._FAILURES, *native._CORRUPT, *native_coder._ERRORS, *asked_too_little}
    assert interface.statuses().keys() == known


def test_a_block_gets_its_parameters_in_their_order():
    for name in ("FlicFatParameters", "FlicFatGradients"):
        fields = [field for field, _ in interface.structure(name)._fields_]
        at = fields.index("tables")
        assert (*fields[:at], *(f"table{i}" for i in range(4)), *fields[at + 1 :]) == (
            FATParameters._fields
        )


def test_a_call_of_too_many_or_wrong_arguments_is_refused():
    from flic_kernels.cpu.launch import call

    with pytest.raises(TypeError, match="gdn takes 10 arguments, not 2"):
        call("gdn", None, 0)
    with pytest.raises(ctypes.ArgumentError):
        call("gdn", None, "float32", 1, 1, None, None, 0, None, None, 1)


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
@pytest.mark.parametrize("library_first", [False, True])
def test_torch_lends_its_threads_to_the_library(library_first):
    load = (
        'native.library(); assert "torch" not in sys.modules' if library_first else "import torch"
    )
    printed = in_python(
        f"""
import ctypes, os, sys
from flic_kernels import native
{load}
import torch
from flic_kernels import fused_linear

def threads():
    return len(os.listdir("/proc/self/task"))

torch.set_num_threads(2)
x, weight = torch.rand(4096, 64), torch.rand(64, 64)
(x @ weight).exp()
before = threads()
fused_linear(x, weight, impl="cpu")
added = threads() - before
print(added if hasattr(ctypes.CDLL(torch._C.__file__), "GOMP_parallel") else 0)
child = os.fork()
if child == 0:
    os._exit(torch.get_num_threads())
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    )
    assert printed.split() == ["0", "1"]
