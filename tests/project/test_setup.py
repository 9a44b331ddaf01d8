"""What setup.py tells nvcc, where none is needed; what it installs."""

import runpy
import subprocess
import sys

import pytest
from places import ROOT

from flic.model import library

SETUP = ROOT / "setup.py"
CARDS = (80, 86, 87, 89, 90, 100, 103, 110, 120, 121)


@pytest.fixture
def architectures(monkeypatch):
    """nvcc_architectures() of setup.py, where nvcc lists the given ones."""
    monkeypatch.setattr("setuptools.setup", lambda **options: None)
    function = runpy.run_path(str(SETUP))["nvcc_architectures"]

    def options(*known):
        listed = "".join(f"compute_{number}\n" for number in known)
        done = subprocess.CompletedProcess([], 0, listed, "")
        monkeypatch.setattr(subprocess, "run", lambda *arguments, **options: done)
        return function()

    return options


def runs(options, card):
    """Whether a card has an image: code of its major version, or PTX that is no newer than it."""
    images = [option.rsplit("=", 1)[1].split("_") for option in options]
    return any(
        int(number) <= card and (kind == "compute" or int(number) // 10 == card // 10)
        for kind, number in images
    )


@pytest.mark.parametrize("newest", [90, 100, 121])
def test_every_card_from_80_on_has_an_image(architectures, newest):
    options = architectures(75, 80, *(card for card in CARDS if 80 < card <= newest))
    assert [card for card in CARDS if not runs(options, card)] == []
    assert len(options) == len(set(options))


def test_code_of_what_is_common_and_ptx_of_hopper_and_the_newest(architectures):
    assert architectures(75, 80, 90, 100, 121) == [
        "-gencode=arch=compute_80,code=sm_80",
        "-gencode=arch=compute_90,code=sm_90",
        "-gencode=arch=compute_121,code=sm_121",
        "-gencode=arch=compute_90,code=compute_90",
        "-gencode=arch=compute_121,code=compute_121",
    ]


def test_an_nvcc_before_hopper(architectures):
    assert architectures(70, 80, 86) == [
        "-gencode=arch=compute_80,code=sm_80",
        "-gencode=arch=compute_86,code=sm_86",
        "-gencode=arch=compute_86,code=compute_86",
    ]


def test_an_nvcc_that_lists_nothing(architectures):
    from setuptools.errors import CompileError

    with pytest.raises(CompileError, match="names no architecture"):
        architectures()


def test_what_is_installed(tmp_path):
    """The model that encodes, and headers and sources; not the retired model."""
    command = [sys.executable, SETUP, "--quiet", "build_py", "--build-lib", tmp_path]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    weights = {path.name for path in (tmp_path / "flic" / "weights").iterdir()}
    assert weights == {"README.md", "retired.json", f"{library.DEFAULT}.safetensors"}
    assert (tmp_path / "flic_kernels" / "csrc" / "include" / "flic.h").is_file()
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.*")) < 24e6
