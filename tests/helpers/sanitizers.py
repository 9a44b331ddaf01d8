"""Runs tests on a native library that is built with sanitizers.

    python tests/helpers/sanitizers.py address  with undefined behaviour, too
    python tests/helpers/sanitizers.py thread   either with --quick: a part of the tests

The packages and tests are copied beside the library, the sanitizer's runtime is preloaded into
Python and its children. PyTorch itself is not instrumented: what is checked is this project's C++,
on PyTorch's memory. A finding ends the process that it is found in and is printed at the end; the
status is 0 where there is none and the tests pass.
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from native_builds import build
from places import CSRC, ROOT

FLAGS = {
    "address": ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"],
    "thread": ["-fsanitize=thread"],
}
RUNTIMES = {"address": "libasan.so", "thread": "libtsan.so"}
OPTIONS = {
    # Python and PyTorch leave memory to the system at exit.
    "address": {"ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "print_stacktrace=1"},
    "thread": {"TSAN_OPTIONS": "halt_on_error=1:exitcode=66"},
}
# glibc frees an ended thread's variables when it makes another one, under a lock of its own that
# the thread sanitizer does not see.
SUPPRESSED = "race:_dl_deallocate_tls\n"
TESTS = {
    ("address", "whole"): (
        ["kernels/test_cpu.py", "kernels/test_cpu_products.py", "kernels/test_fat_block.py",
         "kernels/test_ops.py", "kernels/test_exact.py", "kernels/test_exact_errors.py",
         "kernels/test_rans.py", "kernels/test_rans_golden.py", "kernels/test_rans_tables.py",
         "codec/test_codec.py", "codec/test_c_library.py", "kernels/test_accelerate.py",
         "training/test_training.py", "cli/test_workers.py", "codec/test_processes.py",
         "coding/test_z_prior.py"],
        "not triton and not another_build and not stopping",
    ),
    ("address", "quick"): (
        ["kernels/test_ops.py", "kernels/test_rans_golden.py", "kernels/test_accelerate.py"],
        "cpu and test_result_and_gradients and float32 or test_rans_golden or large_pictures",
    ),
    ("thread", "whole"): (
        ["kernels/test_cpu.py", "codec/test_processes.py", "codec/test_c_library.py"],
        "threads_change_no_bit or at_once or threads-tiny",
    ),
    ("thread", "quick"): (["codec/test_processes.py"], "at_once"),
}  # fmt: skip


def library(kind: str, folder: Path) -> None:
    """The CPU library with a sanitizer, at folder/flic_kernels."""
    sources = sorted(CSRC.rglob("*.cpp"))
    flags = ["-O1", "-g1", "-fno-omit-frame-pointer", "-ffp-contract=off", *FLAGS[kind]]
    output = folder / "flic_kernels" / "libflic_kernels.so"
    build(output, sources, flags, link=["-shared", *FLAGS[kind]])
    for path in output.parent.glob("*.o"):
        path.unlink()


def copy_packages(folder: Path) -> None:
    """Everything but native libraries: `flic_kernels` looks for those where it lies."""
    kept_out = shutil.ignore_patterns("*.so", "__pycache__")
    for name in ("flic", "flic_kernels", "tests", "benches", "examples"):
        shutil.copytree(ROOT / name, folder / name, ignore=kept_out)
    for name in ("pyproject.toml", "README.md", "setup.py"):
        shutil.copy(ROOT / name, folder / name)
    shutil.copytree(ROOT / "docs", folder / "docs")


def preloaded(kind: str) -> str:
    """The sanitizer's library, and that of C++, whose exceptions it looks for when it starts."""
    paths = []
    for name in (RUNTIMES[kind], "libstdc++.so"):
        command = ["g++", f"-print-file-name={name}"]
        found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        if not Path(found).is_absolute():
            raise SystemExit(f"sanitizers: g++ has no {name}")
        paths.append(str(Path(found).resolve()))
    return " ".join(paths)


def main() -> int:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("kind", choices=FLAGS)
    parser.add_argument("--quick", action="store_true")
    given, arguments = parser.parse_known_args()
    folder = ROOT / "build" / "sanitize" / given.kind
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    copy_packages(folder)
    library(given.kind, folder)
    tests, chosen = TESTS[given.kind, "quick" if given.quick else "whole"]
    command = [
        sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-k", chosen, *arguments,
        *(f"tests/{name}" for name in tests),
    ]  # fmt: skip
    reports, suppressions = folder / "reports", folder / "suppressions"
    reports.mkdir()
    suppressions.write_text(SUPPRESSED if given.kind == "thread" else "")
    options = {
        name: f"{value}:log_path={reports}/found:suppressions={suppressions}"
        for name, value in OPTIONS[given.kind].items()
    }
    environment = os.environ | options | {
        "LD_PRELOAD": preloaded(given.kind), "PYTHONPATH": str(folder), "PYTHONMALLOC": "malloc",
    }  # fmt: skip
    status = subprocess.run(command, cwd=folder, env=environment).returncode
    found = sorted(reports.iterdir())
    for report in found:
        print(report.read_text(errors="replace"), file=sys.stderr)
    print(f"{given.kind} sanitizer: {len(found)} findings")
    return status or len(found) > 0


if __name__ == "__main__":
    sys.exit(main())
