"""The fuzzers themselves work: what they try, and that they notice."""

import importlib.util
import os
import random
import subprocess
from pathlib import Path

import pytest
from native_builds import codec_fuzzer_program, compiler
from places import ROOT

import flic
import flic_kernels
from flic.format import stream


def load(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "fuzz" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def fuzzer():
    return load("container_fuzzer")


def test_mutants_are_read_or_refused(fuzzer):
    rng = random.Random(1)
    seeds = fuzzer.seeds()
    assert all(map(fuzzer.readable, seeds))
    mutants = [fuzzer.mutate(rng.choice(seeds), rng) for _ in range(200)]
    assert len(set(mutants)) > 150
    read = sum(map(fuzzer.readable, mutants))
    assert 10 < read < 190


def test_another_failure_is_noticed(fuzzer, monkeypatch, capsys):
    """In the stream, too, which lies behind the container's checksum."""

    def broken(data):
        raise IndexError("a hole")

    monkeypatch.setattr(stream, "unpack", broken)
    monkeypatch.setattr(fuzzer.sys, "argv", ["container_fuzzer.py", "20"])
    with pytest.raises(IndexError, match="a hole"):
        fuzzer.main()
    assert "failed on 464c4943" in capsys.readouterr().err


@pytest.fixture(scope="module")
def codec(tmp_path_factory):
    """What the C library's fuzzer begins with, in a folder."""
    folder = tmp_path_factory.mktemp("codec")
    load("codec_seeds").write(folder)
    return folder


def test_seeds_of_the_codec_fuzzer(codec):
    model, seeds = codec / "model.safetensors", sorted((codec / "seeds").iterdir())
    files = [seed for seed in seeds if seed.read_bytes()[:4] == b"FLIC"]
    assert {flic.decode(path, model).mode for path in files} == {"L", "RGB", "RGBA"}
    contents = model.read_bytes()
    headers = [seed.read_bytes() for seed in seeds if seed not in files]
    assert len(headers) == 2 and any(contents.startswith(data[:-16]) for data in headers)


@pytest.mark.skipif(compiler("g++", "c++") is None, reason="no C++ compiler on the path")
def test_codec_fuzzer(codec, fuzzer, tmp_path):
    """It tries what it is given, and notices what must not be."""
    library = Path(flic_kernels.__file__).with_name("libflic_kernels.so")
    program = codec_fuzzer_program(tmp_path, library, (compiler("g++", "c++"),))

    def run(model, *inputs):
        environment = os.environ | {"FLIC_FUZZ_MODEL": str(model)}
        return subprocess.run([program, *inputs], env=environment, capture_output=True, text=True)

    rng, seeds = random.Random(1), sorted((codec / "seeds").iterdir())
    mutants = [tmp_path / f"mutant{i}" for i in range(100)]
    for path in mutants:
        path.write_bytes(fuzzer.mutate(rng.choice(seeds).read_bytes(), rng))
    done = run(codec / "model.safetensors", *seeds, *mutants)
    assert (done.returncode, done.stderr) == (0, "")
    done = run(codec / "missing", *seeds)
    assert done.returncode < 0 and "failed: FLIC_FUZZ_MODEL" in done.stderr
