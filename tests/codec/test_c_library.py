"""The C library: its example makes flic's files, and what flic.h promises holds."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from native_builds import compiler
from PIL import Image
from places import CSRC, NATIVE, ROOT

import flic
import flic_kernels
from flic.model.library import WEIGHTS

PARROT = ROOT / "flic" / "assets" / "parrot.png"
MODELS = {name: WEIGHTS / f"{name}.safetensors" for name in ("small", "tiny")}
STRICT = "-Wall -Wextra -Wpedantic -Werror -O1 -g".split()
C = ["-std=c11"]
CXX = ["-std=c++17", "-pthread"]
# For a call to stop: half of it alone, but other tests run beside; sanitizers are slow.
SECONDS = 5 if "LD_PRELOAD" in os.environ else 1

pytestmark = pytest.mark.skipif(
    compiler("cc") is None or compiler("c++") is None, reason="no C and C++ compiler on the path"
)


@pytest.fixture(scope="session")
def build(tmp_path_factory):
    """Builds a program of one source with the library, from flic.h alone."""
    folder = tmp_path_factory.mktemp("programs")
    folder_of_library = Path(flic_kernels.__file__).parent

    def built(source, command, language):
        program = folder / source.stem
        include = ["-I", CSRC / "include"]
        link = ["-L", folder_of_library, "-lflic_kernels", f"-Wl,-rpath,{folder_of_library}"]
        link.append("-Wl,--allow-shlib-undefined")  # a sanitizer's functions, which are preloaded
        run(command, *language, *STRICT, *include, source, "-o", program, *link)
        return program

    return built


@pytest.fixture(scope="session")
def example(build):
    return build(ROOT / "examples" / "flic_ppm.c", "cc", C)


@pytest.fixture(scope="session")
def results(build):
    return build(NATIVE / "flic_results.cpp", "c++", CXX)


@pytest.fixture(scope="session")
def refusals(build):
    return build(NATIVE / "flic_refusals.cpp", "c++", CXX)


def start(*command):
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=600)


def run(*command):
    """What a command that succeeds prints."""
    done = start(*command)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, done.stderr


@pytest.fixture(scope="session")
def parrot(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures") / "parrot.ppm"
    Image.open(PARROT).convert("RGB").save(path)
    return path


@pytest.mark.parametrize("step", [None, 3.5])
@pytest.mark.parametrize("name", MODELS)
def test_example(example, parrot, tmp_path, name, step):
    file, drawn = tmp_path / "parrot.flic", tmp_path / "again.ppm"
    out, told = run(example, "encode", MODELS[name], parrot, file, *([step] if step else []))
    assert (out, told) == ("", "encode: 1 of 1\n")
    data = file.read_bytes()
    assert data == flic.encode(PARROT, name, step=step, strip=True)
    out, told = run(example, "decode", MODELS[name], file, drawn)
    assert (out, told) == ("", "decode: 1 of 2\ndecode: 2 of 2\n")
    assert np.array_equal(np.array(Image.open(drawn)), np.array(flic.decode(data)))


def test_example_on_gray(example, tmp_path):
    gray = Image.fromarray(np.array(Image.open(PARROT).convert("L").crop((0, 0, 33, 20))))
    (tmp_path / "a.flic").write_bytes(flic.encode(gray, "tiny"))
    run(example, "decode", MODELS["tiny"], tmp_path / "a.flic", tmp_path / "a.pgm")
    found = Image.open(tmp_path / "a.pgm")
    assert found.mode == "L"
    assert np.array_equal(np.array(found), np.array(flic.decode(tmp_path / "a.flic")))


@pytest.fixture(scope="session")
def wrong(parrot, tmp_path_factory):
    """Files that cannot be used, by name."""
    folder, file = tmp_path_factory.mktemp("wrong"), flic.encode(PARROT, "small")
    contents = {
        "file": file,
        "cut": file[:-1],
        "changed": file[:3000] + bytes([file[3000] ^ 1]) + file[3001:],
        "newer": file[:4] + b"\x09" + file[5:],
        "empty": b"",
        "cut.ppm": parrot.read_bytes()[:-1],
        "gray.ppm": b"P5 1 1 255\n\0",
        "no.ppm": b"P6 0 1 255\n\0",
    }
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.mark.parametrize(
    ("command", "model", "source", "why"),
    [
        ("encode", "small", "missing", "FROM cannot be opened"),
        ("encode", "small", "empty", "no PPM"),
        ("encode", "small", "gray.ppm", "no PPM"),
        ("encode", "small", "no.ppm", "no PPM"),
        ("encode", "small", "cut.ppm", "ends early"),
        ("decode", "small", "missing", "FROM cannot be opened"),
        ("decode", "small", "empty", "the file is empty"),
        ("decode", "small", "cut", "ends early or is damaged"),
        ("decode", "small", "changed", "its checksum does not match"),
        ("decode", "small", "newer", "format version 9"),
        ("decode", "small", "cut.ppm", "not a .flic file"),
        ("decode", "tiny", "file", "made with model"),
        ("decode", "missing", "file", "No such file"),
        ("decode", "wrong", "file", "not a safetensors file"),
        ("draw", "small", "file", "use: "),
    ],
)
def test_example_refuses(example, wrong, tmp_path, command, model, source, why):
    path = MODELS.get(model, wrong / ("cut" if model == "wrong" else "missing"))
    done = start(example, command, path, wrong / source, tmp_path / "out")
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and why in line


@pytest.mark.parametrize("step", ["0", "65", "x"])
def test_example_refuses_a_step(example, parrot, tmp_path, step):
    done = start(example, "encode", MODELS["small"], parrot, tmp_path / "out", step)
    assert done.returncode == 1 and "a step must lie between" in done.stderr


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("check", ["memory", "threads", "shapes", "regions", "sections", "steps"])
def test_results(results, check, name):
    run(results, check, MODELS[name])


@pytest.mark.parametrize("check", ["limits", "stopping", "again", "arguments"])
def test_refusals(refusals, check):
    run(refusals, check, MODELS["small"], SECONDS)
