"""Builds parts of the native library and C++ test programs with other compilers and flags.

`python tests/native_builds.py exact-full` compares exp and GELU on all 2^32 inputs (minutes).
"""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CSRC = ROOT / "flic_kernels" / "csrc"
NATIVE = Path(__file__).resolve().parent / "native"

_ALWAYS = "-std=c++17 -fPIC -fvisibility=hidden -Wall -Wextra -pthread".split()
_AVX2 = "-mavx2 -mfma -mbmi2 -mf16c".split()
_AVX512 = [*_AVX2, *"-mavx512f -mavx512bw -mavx512dq -mavx512vl".split()]
_SETS = {
    "_avx2": _AVX2,
    "_avx512": _AVX512,
    "_avx512bf16": [*_AVX512, "-mavx512bf16"],
    "_amx": [*_AVX512, "-mavx512bf16", "-mamx-tile", "-mamx-bf16"],
}


def compiler(*names):
    """The first of these compilers on the path, or None."""
    return next((name for name in names if shutil.which(name)), None)


def build(output, sources, flags, command=("g++",), link=()):
    """Compiles each source with `flags` and its instruction set's, and links `output`."""
    native = command[0] in ("g++", "c++", "clang++")

    def compile_one(source):
        extra = []
        if native and platform.machine() in ("x86_64", "AMD64"):
            extra = next((f for end, f in _SETS.items() if source.stem.endswith(end)), [])
        obj = output.parent / f"{output.stem}_{source.parent.name}_{source.stem}.o"
        _run([*command, *_ALWAYS, *flags, *extra, "-c", source, "-o", obj])
        return obj

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compile_one, sources))
    _run([*command, "-pthread", *link, *objects, "-o", output])
    return output


def _exact_sources():
    return [*sorted((CSRC / "exact").glob("*.cpp")), CSRC / "isa.cpp", CSRC / "pool.cpp"]


def exact_library(folder, flags, command=("g++",)):
    """The exact engine alone as a shared library."""
    return build(folder / "libexact.so", _exact_sources(), flags, command, ["-shared"])


def exact_run_program(folder, flags, command=("g++",), link=()):
    """tests/native/exact_run.cpp with the exact engine; for another processor, too."""
    return build(
        folder / "exact_run", [*_exact_sources(), NATIVE / "exact_run.cpp"], flags, command, link
    )


def exact_cuda_library(folder, command=("g++",)):
    """The exact engine's CUDA library as host code, on tests/native/cuda/cuda_runtime.h."""
    flags = ["-O2", "-x", "c++", f"-I{NATIVE / 'cuda'}"]
    sources = sorted((CSRC / "exact").glob("cuda_*.cu"))
    return build(folder / "libcuda_engine.so", sources, flags, command, ["-shared"])


def exact_full_program(folder, flags=("-O3", "-ffp-contract=off")):
    """tests/native/exact_full.cpp with the kernels."""
    sources = [NATIVE / "exact_full.cpp", *sorted((CSRC / "exact").glob("kernels_*.cpp"))]
    return build(folder / "exact_full", sources, flags)


def _run(command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}\n{done.stderr}")


def main():
    if sys.argv[1:] != ["exact-full"]:
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        program = exact_full_program(Path(folder))
        sys.exit(subprocess.run([program, "0", str(os.cpu_count())]).returncode)


if __name__ == "__main__":
    main()
