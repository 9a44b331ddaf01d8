"""The fuzzers themselves work: what they try, and that they notice."""

import importlib.util
import random

import pytest
from places import ROOT

from flic.format import stream

PATH = ROOT / "fuzz" / "container_fuzzer.py"


@pytest.fixture
def fuzzer():
    spec = importlib.util.spec_from_file_location("container_fuzzer", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
