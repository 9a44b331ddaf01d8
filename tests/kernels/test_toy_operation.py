"""A new operation, added as CONTRIBUTING.md says: at most seven files, and the tests find it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from native_builds import build, compiler
from places import ROOT

TOY = Path(__file__).resolve().parent / "toy_operation"
NEW = {  # the toy's files, and where they belong
    "ops.py": "ops/mix.py",
    "cpu.py": "cpu/mix.py",
    "triton.py": "triton/mix.py",
    "mix.cpp": "csrc/cpu/mix.cpp",
}
LINES = {  # lines that are added to others: before what
    "ops/__init__.py": {
        "from .positional_encoding import": "from .mix import mix\n",
        '    "positional_encoding",': '    "mix",\n',
    },
    "csrc/include/flic_kernels.h": {
        "/* The exact engine": "FLIC_API int flic_mix(const void* x, const void* y, int element, "
        "int64_t count, float amount, void* out);\n\n",
    },
}


@pytest.fixture
def project(tmp_path):
    """A copy of the package with the toy in it, and a library that has its kernel."""
    package = tmp_path / "flic_kernels"
    ignored = shutil.ignore_patterns("__pycache__", "libflic_kernels_cuda.so")
    shutil.copytree(ROOT / "flic_kernels", package, ignore=ignored)
    for source, target in NEW.items():
        shutil.copy(TOY / source, package / target)
    for name, added in LINES.items():
        text = (package / name).read_text()
        for before, line in added.items():
            assert text.count(before) == 1
            text = text.replace(before, line + before)
        (package / name).write_text(text)
    # What is built already stays: the new library has the toy, and stands on the one that is there.
    whole, library = package / "libwhole.so", package / "libflic_kernels.so"
    library.rename(whole)
    shutil.copy(ROOT / "setup.py", tmp_path)
    sources = [package / "csrc/cpu/mix.cpp", package / "csrc/base/abi.cpp"]
    link = ["-shared", "-Wl,--no-as-needed", whole, "-Wl,-rpath,$ORIGIN"]
    build(library, sources, ["-O2"], (compiler("g++", "c++"),), link, tmp_path)
    return tmp_path


@pytest.mark.skipif(compiler("g++", "c++") is None or sys.platform != "linux", reason="needs g++")
def test_a_toy_operation_touches_few_files_and_is_tested(project):
    assert len(NEW) + len(LINES) <= 7
    tests = [
        ROOT / "tests/kernels" / name for name in ("test_ops.py", "test_cpu.py", "test_triton.py")
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "mix", *tests],
        cwd=project,
        env=os.environ | {"PYTHONPATH": str(project)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    passed = int(done.stdout.split(" passed")[0].split()[-1])
    assert passed >= 40


def test_the_guide_names_the_files():
    guide = (ROOT / "CONTRIBUTING.md").read_text()
    for name in (*NEW.values(), *LINES):
        path = name.replace("mix", "<op>")
        assert f"`flic_kernels/{path}`" in guide, path
