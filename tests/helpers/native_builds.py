"""Builds parts of the native library and C++ test programs with other compilers and flags.

    python tests/helpers/native_builds.py exact-full
    python tests/helpers/native_builds.py rans-fuzzer OUTPUT
    python tests/helpers/native_builds.py codec-fuzzer OUTPUT

The first compares exp and GELU on all 2^32 inputs, and the emulated fma with the hardware's on 10^9
(minutes); the others build fuzz/rans_fuzzer.cpp and fuzz/codec_fuzzer.cpp with clang++.
"""

import os
import runpy
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from places import CSRC, NATIVE, ROOT

_ALWAYS = "-std=c++17 -fPIC -fvisibility=hidden -Wall -Wextra -pthread".split()
_FUZZED = "-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined".split()


def compiler(*names):
    """The first of these compilers on the path, or None."""
    return next((name for name in names if shutil.which(name)), None)


def build(output, sources, flags, command=("g++",), link=(), root=ROOT):
    """Compiles the sources as root's setup.py does, but with `flags`, and links `output`."""
    setup = runpy.run_path(str(root / "setup.py"))
    x86_64 = setup["for_x86_64"]() and command[0] in ("g++", "c++", "clang++")
    x86_64 = x86_64 and "-DFLIC_SCALAR_ONLY" not in flags

    def compile_one(compilation):
        source, extra, name = compilation
        obj = output.parent / f"{output.stem}_{name}"
        _run([*command, *_ALWAYS, *setup["OWN_FLAGS"], *flags, *extra, "-c", source, "-o", obj])
        return obj

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compile_one, setup["compilations"](sources, x86_64)))
    _run([*command, "-pthread", *link, *objects, "-o", output])
    return output


def _exact_sources():
    return [
        *sorted((CSRC / "exact").glob("*.cpp")),
        *(CSRC / f"base/{name}.cpp" for name in ("isa", "pool", "stop")),
    ]


def exact_library(folder, flags, command=("g++",)):
    """The exact engine alone as a shared library."""
    return build(folder / "libexact.so", _exact_sources(), flags, command, ["-shared"])


def plain_library(folder, flags, command=("g++",)):
    """The whole library in plain C++, for one thread: what any processor can run."""
    flags = [*flags, "-DFLIC_NO_THREADS", "-DFLIC_SCALAR_ONLY"]
    return build(folder / "libplain.so", sorted(CSRC.rglob("*.cpp")), flags, command, ["-shared"])


def tables_library(folder, flags, command=("g++",)):
    """What computes tables alone: the Gaussian ones and z's."""
    sources = [
        *(CSRC / f"rans/{name}.cpp" for name in ("gaussian_tables", "quantise", "rows_capi")),
        *(CSRC / f"codec/{name}.cpp" for name in ("z_prior", "z_prior_capi")),
        CSRC / "rans/tables.cpp",
    ]
    return build(folder / "libtables.so", sources, flags, command, ["-shared"])


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
    sources = [NATIVE / "exact_full.cpp", CSRC / "exact/exact_kernels_simd.cpp"]
    return build(folder / "exact_full", sources, flags)


def soft_fma_program(folder, flags=("-O3", "-ffp-contract=off"), command=("g++",)):
    """tests/native/soft_fma.cpp, flags being those of the library."""
    return build(folder / "soft_fma", [NATIVE / "soft_fma.cpp"], flags, command)


def model_file_program(folder, flags, command=("g++",), link=()):
    """tests/native/model_file.cpp with what reads a model's file."""
    names = ("crc32", "file_contents", "half", "json", "model_file", "sha256")
    sources = [
        NATIVE / "model_file.cpp",
        CSRC / "base/isa.cpp",
        *(CSRC / f"codec/{name}.cpp" for name in names),
    ]
    return build(folder / "model_file", sources, flags, command, link)


def rans_fuzzer(output):
    """fuzz/rans_fuzzer.cpp with the coder, for libFuzzer."""
    sources = [
        ROOT / "fuzz/rans_fuzzer.cpp",
        NATIVE / "warp_emulator.cpp",
        CSRC / "base/isa.cpp",
        *sorted((CSRC / "rans").glob("*.cpp")),
    ]
    link = ["-fsanitize=fuzzer,address,undefined"]
    return build(output, sources, ["-g", "-O1", *_FUZZED], ("clang++",), link)


def codec_fuzzer(output):
    """fuzz/codec_fuzzer.cpp with the whole library, for libFuzzer."""
    sources = [ROOT / "fuzz/codec_fuzzer.cpp", *sorted(CSRC.rglob("*.cpp"))]
    covered = f"-fsanitize-coverage-allowlist={ROOT / 'fuzz/covered.txt'}"
    flags = ["-g", "-O1", *_FUZZED, covered, "-DFLIC_FUZZED", "-Wno-unknown-warning-option"]
    return build(output, sources, flags, ("clang++",), ["-fsanitize=fuzzer,address,undefined"])


def codec_fuzzer_program(folder, library, command=("g++",)):
    """The same without libFuzzer, on the library as it is built."""
    sources = [ROOT / "fuzz/codec_fuzzer.cpp", NATIVE / "run_fuzzer.cpp", CSRC / "codec/crc32.cpp"]
    link = ["-L", library.parent, f"-Wl,-rpath,{library.parent}", "-Wl,--no-as-needed"]
    link += ["-lflic_kernels", "-Wl,--allow-shlib-undefined"]
    return build(folder / "codec_fuzzer", sources, ["-O1"], command, link)


def _run(command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}\n{done.stderr}")


def main():
    fuzzers = {"rans-fuzzer": rans_fuzzer, "codec-fuzzer": codec_fuzzer}
    if sys.argv[1:2] and sys.argv[1] in fuzzers and len(sys.argv) == 3:
        fuzzers[sys.argv[1]](Path(sys.argv[2]))
        return
    if sys.argv[1:] != ["exact-full"]:
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        fma = [soft_fma_program(Path(folder)), "1000000000"]
        functions = [exact_full_program(Path(folder)), "0", str(os.cpu_count())]
        sys.exit(any([subprocess.run(command).returncode for command in (fma, functions)]))


if __name__ == "__main__":
    main()
