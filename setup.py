"""Builds the native libraries: plain C++ (and CUDA where nvcc is found) behind a C interface.

No torch, no Python headers: one library serves every Python and torch version, so the wheel is
tagged py3-none-PLATFORM. `pip install .`, `pip install -e .`, `pip wheel .` and
`python setup.py build_ext --inplace` all come through here.
"""

import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

try:
    from setuptools.command.bdist_wheel import bdist_wheel
except ImportError:  # setuptools before 70.1
    from wheel.bdist_wheel import bdist_wheel

ROOT = Path(__file__).resolve().parent
CSRC = ROOT / "flic_kernels" / "csrc"
CPU_LIBRARY = "flic_kernels.libflic_kernels"
CUDA_LIBRARY = "flic_kernels.libflic_kernels_cuda"

# Whatever compiles: where headers are, and the checksum of the C interface as in interface.py.
HEADERS = (CSRC / "include" / name for name in ("flic.h", "flic_kernels.h"))
INTERFACE = zlib.crc32(b"".join(header.read_bytes() for header in HEADERS))
OWN_FLAGS = [f"-I{CSRC}", f"-DFLIC_INTERFACE={INTERFACE:#x}u"]
CXX_FLAGS = (
    "-O3 -std=c++17 -fPIC -ffp-contract=off -fvisibility=hidden -Wall -Wextra -pthread".split()
)
AVX2_FLAGS = "-mavx2 -mfma -mbmi2 -mf16c".split()
# gcc's own AVX-512 header trips -Wmaybe-uninitialized (gcc bug 105593).
AVX512_FLAGS = (
    AVX2_FLAGS
    + "-mavx512f -mavx512bw -mavx512dq -mavx512vl".split()
    + "-Wno-uninitialized -Wno-maybe-uninitialized".split()
)
INSTRUCTION_SETS = {
    "scalar": ["-DFLIC_LANES_SCALAR"],
    "avx2": AVX2_FLAGS,
    "avx512": AVX512_FLAGS,
    "avx512bf16": [*AVX512_FLAGS, "-mavx512bf16"],
    "amx": [*AVX512_FLAGS, "-mavx512bf16", "-mamx-tile", "-mamx-bf16"],
}
NVCC_FLAGS = (
    "-O3 -std=c++17 -Xcompiler=-fPIC,-fvisibility=hidden,-ffp-contract=off "
    "-fmad=false -ftz=false -prec-div=true -prec-sqrt=true"
).split()


def cxx_compiler():
    """The C++ compiler as a command list: $CXX, or the first usual name on the path."""
    if os.environ.get("CXX"):
        return shlex.split(os.environ["CXX"])
    for name in ("c++", "g++", "clang++"):
        if shutil.which(name):
            return [name]
    raise CompileError(
        "no C++ compiler found; install one (Debian: apt-get install g++) or set CXX"
    )


def for_x86_64():
    return platform.machine().lower() in ("x86_64", "amd64")


def compilations(sources, x86_64):
    """(source, flags, object name) for every time that one of the sources is compiled.

    One that ends in _simd is compiled for each instruction set, one that ends in an instruction
    set's name for that one, all others once and for any processor. FLIC_ISA names the namespace
    that such a source defines its table in. tests/helpers/native_builds.py follows the same rule.
    """
    for source in sources:
        name, ending = f"{source.parent.name}_{source.stem}", source.stem.rpartition("_")[2]
        if ending != "simd" and ending not in INSTRUCTION_SETS:
            yield source, [], f"{name}.o"
            continue
        for isa in ("scalar", "avx2", "avx512") if ending == "simd" else (ending,):
            if isa == "scalar" or x86_64:
                flags = [f"-DFLIC_ISA={isa}", *INSTRUCTION_SETS[isa]]
                yield source, flags, f"{name}_{isa}.o"


def nvcc_architectures():
    """sm_80, sm_90 and the newest this nvcc knows; PTX of 90 and of the newest for all others.

    A card takes code of its own major version or PTX no newer than it, so PTX of the newest alone
    would leave out the cards between it and sm_90.
    """
    listed = subprocess.run(["nvcc", "--list-gpu-arch"], capture_output=True, text=True).stdout
    known = sorted({int(number) for number in re.findall(r"compute_(\d+)", listed)})
    if not known:
        raise CompileError("nvcc --list-gpu-arch names no architecture")
    code = dict.fromkeys([*(arch for arch in (80, 90) if arch in known), known[-1]])
    ptx = dict.fromkeys([*(arch for arch in (90,) if arch in known), known[-1]])
    return [
        *(f"-gencode=arch=compute_{arch},code=sm_{arch}" for arch in code),
        *(f"-gencode=arch=compute_{arch},code=compute_{arch}" for arch in ptx),
    ]


def dependencies(depfile):
    """The files named in a make-style dependency file, or None where there is none."""
    if not depfile.exists():
        return None
    text = depfile.read_text().replace("\\\n", " ").split(":", 1)[-1]
    return [Path(name.replace("\0", " ")) for name in text.replace("\\ ", "\0").split()]


def is_current(target, inputs):
    """Whether target exists and is newer than every input, and every input exists."""
    if inputs is None or not target.exists():
        return False
    made = target.stat().st_mtime
    return all(path.exists() and path.stat().st_mtime <= made for path in inputs)


def run_tool(command, what):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    sys.stderr.write(done.stdout + done.stderr)
    if done.returncode:
        raise CompileError(f"{what} failed: {shlex.join(str(part) for part in command)}")


class BuildNative(build_ext):
    """Compiles the sources of an extension in parallel and links one plain shared library."""

    def get_ext_filename(self, fullname):
        return fullname.replace(".", os.sep) + ".so"

    def build_extension(self, ext):
        output = Path(self.get_ext_fullpath(ext.name))
        sources = [ROOT / source for source in ext.sources]
        if ext.name == CPU_LIBRARY:
            compiler = cxx_compiler()
            command = [*compiler, *CXX_FLAGS, *OWN_FLAGS, "-MMD"]
            self.build_library(sources, output, command, [*compiler, "-shared"])
            return
        try:
            architectures = nvcc_architectures()
            self.build_library(
                sources,
                output,
                ["nvcc", *NVCC_FLAGS, *architectures, *OWN_FLAGS, "-MD"],
                ["nvcc", "-shared", *architectures],
            )
        except (CompileError, OSError) as error:
            if self.inplace:
                output.unlink(missing_ok=True)
            self.warn(f"the CUDA library was not built, CPU kernels are unaffected: {error}")

    def build_library(self, sources, output, command, link):
        folder = Path(self.build_temp) / output.stem
        folder.mkdir(parents=True, exist_ok=True)

        def compile_one(compilation):
            source, flags, name = compilation
            obj = folder / name
            depfile = obj.with_suffix(".d")
            listed = dependencies(depfile)
            inputs = None if listed is None else [*listed, Path(__file__).resolve()]
            if self.force or not is_current(obj, inputs):
                what = f"compiling {source.relative_to(ROOT)} to {name}"
                print(what, flush=True)
                run_tool([*command, *flags, "-MF", depfile, "-c", source, "-o", obj], what)
            return obj

        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            objects = list(pool.map(compile_one, compilations(sources, for_x86_64())))
        if self.force or not is_current(output, [*objects, Path(__file__).resolve()]):
            output.parent.mkdir(parents=True, exist_ok=True)
            temporary = output.with_suffix(".so.new")
            pthread = ["-pthread"] if link[0] != "nvcc" else []
            run_tool([*link, *pthread, *objects, "-o", temporary], f"linking {output.name}")
            temporary.replace(output)


class Wheel(bdist_wheel):
    """Tags the wheel py3-none-PLATFORM: the library depends on no Python ABI."""

    def finalize_options(self):
        super().finalize_options()
        self.root_is_pure = False

    def get_tag(self):
        return "py3", "none", super().get_tag()[2]


def extensions():
    def sources(pattern):
        return sorted(str(path.relative_to(ROOT)) for path in CSRC.rglob(pattern))

    found = [Extension(CPU_LIBRARY, sources("*.cpp"))]
    if sources("*.cu") and shutil.which("nvcc"):
        found.append(Extension(CUDA_LIBRARY, sources("*.cu"), optional=True))
    return found


if __name__ == "__main__":  # not where tests/helpers/native_builds.py asks for compilations()
    setup(ext_modules=extensions(), cmdclass={"build_ext": BuildNative, "bdist_wheel": Wheel})
