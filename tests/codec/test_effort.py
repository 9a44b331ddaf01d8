"""Latents refined by gradients: better files that every decoder opens, never worse ones."""

import numpy as np
import pytest
import torch
from cli_tools import run
from PIL import Image
from places import ROOT
from processes import python

import flic
from flic.cli.tasks import Encode
from flic.codec.codec import Codec
from flic.codec.opening import open_codec
from flic.codec.rate import ITERATIONS, Rate
from flic.coding.slice_loop import Unrounded
from flic.model import refinement
from flic.model.torch_network import TorchNetwork
from flic.pictures import images

PIXELS = np.asarray(Image.open(ROOT / "flic" / "assets" / "parrot.png"))[100:228, 200:424].copy()


@pytest.fixture(scope="module")
def codec():
    return Codec(flic.load_model("tiny"))


@pytest.fixture
def slopes(monkeypatch):
    """What a squared error is worth, as it was found."""
    seen, refine = [], TorchNetwork.refine

    def spied(self, analysed, x, step, slope, *rest):
        seen.append(slope)
        return refine(self, analysed, x, step, slope, *rest)

    monkeypatch.setattr(TorchNetwork, "refine", spied)
    return seen


def cost(codec, data: bytes, slope: float) -> float:
    difference = codec.decode_picture(data).pixels.astype(float) - PIXELS
    return 8 * len(data) + slope * np.square(difference / 255).sum()


@pytest.mark.parametrize("step", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("tile", ["none", 128])
def test_a_file_that_costs_less(codec, slopes, step, tile):
    rate, told = Rate(step=step), []
    plain = codec.encode(PIXELS, rate=rate, tile=tile)
    better = codec.encode(
        PIXELS, rate=rate, tile=tile, effort=2, progress=lambda *told_now: told.append(told_now)
    )
    assert len(set(slopes)) == 1 and slopes[0] > 0
    assert cost(codec, better, slopes[0]) < 0.995 * cost(codec, plain, slopes[0])
    tiles = 2 if tile == 128 else 1
    assert told[-1][:2] == (tiles * ITERATIONS[2],) * 2
    costs = [part[2] for part in told if len(part) > 2]
    assert len(costs) == tiles * ITERATIONS[2]
    assert costs[ITERATIONS[2] - 1] < costs[0]
    native = open_codec("tiny")
    native.verify(better)
    assert np.array_equal(native.decode_picture(better).pixels, codec.decode_picture(better).pixels)
    assert codec.encode(PIXELS, rate=rate, tile=tile, effort=2) == better  # again the same


def test_a_worse_one_is_not_taken(codec, monkeypatch):
    def spoiled(self, analysed, *rest):
        return Unrounded(analysed.y + 1, analysed.z)

    monkeypatch.setattr(TorchNetwork, "refine", spoiled)
    assert codec.encode(PIXELS, effort=1) == codec.encode(PIXELS)


def test_targets(codec, monkeypatch):
    """One whole refinement, and shorter ones from there for the other steps."""
    counts, refine = [], refinement.refine

    def spied(*arguments):
        counts.append(arguments[5])
        return refine(*arguments)

    monkeypatch.setattr(refinement, "refine", spied)
    plain = codec.encode_at(Rate(psnr=24.5), images.read(PIXELS))
    better = codec.encode_at(Rate(psnr=24.5), images.read(PIXELS), effort=2)
    assert abs(better.reached - 24.5) < 0.1 and better.step != plain.step
    assert len(better.data) < len(plain.data)
    assert counts == [ITERATIONS[2]] + [ITERATIONS[2] // 4] * (len(counts) - 1)


def test_the_model_stays_as_it_is(codec):
    state = {name: value.clone() for name, value in codec.model.state_dict().items()}
    codec.model.train()
    codec.encode(PIXELS, effort=1)
    assert codec.model.training
    assert all(parameter.requires_grad for parameter in codec.model.g_s.parameters())
    assert all(torch.equal(value, state[name]) for name, value in codec.model.state_dict().items())
    codec.model.eval()


def test_refused():
    for effort in (-1, 10, 1.5):
        with pytest.raises(flic.OptionError, match="effort must be 0 to 9"):
            flic.encode(PIXELS, effort=effort)
    with pytest.raises(flic.OptionError, match="gradients"):
        open_codec("tiny").encode(PIXELS, effort=1)


def test_the_command(here):
    Image.fromarray(PIXELS).save("a.png")
    run("encode", "a.png", "plain.flic", "-m", "tiny")
    run("encode", "a.png", "a.flic", "-m", "tiny", "--effort", 1)
    assert (here / "a.flic").read_bytes() == flic.encode(PIXELS, "tiny", effort=1)
    assert (here / "a.flic").read_bytes() != (here / "plain.flic").read_bytes()
    run("encode", "a.png", "b.flic", "--effort", 10, code=2)


INTERRUPTED = """
import os, signal, sys
from flic.cli import main
from flic.model import refinement

times, calls, cost = [int(part) for part in sys.argv[1].split(",")], [], refinement.cost

def counted(*arguments):
    calls.append(arguments)
    for _ in range(times.count(len(calls))):
        os.kill(os.getpid(), signal.SIGINT)
    return cost(*arguments)

refinement.cost = counted
sys.argv[1:] = ["encode", "a.png", "a.flic", "-m", "tiny", "--effort", "9"]
main()
"""


def test_an_interrupt_keeps_what_there_is(codec, here):
    """The first Ctrl-C ends the iterations, the second everything."""
    Image.fromarray(PIXELS).save("a.png")
    done = python("-W", "ignore", "-c", INTERRUPTED, "22", OMP_NUM_THREADS="2")
    assert done.returncode == 0, done.stderr
    assert done.stderr == "flic: keeping what has been reached; Ctrl-C again stops\n"
    data = (here / "a.flic").read_bytes()
    assert data != codec.encode(PIXELS)
    codec.verify(data)
    (here / "a.flic").unlink()
    done = python("-W", "ignore", "-c", INTERRUPTED, "22,22")
    assert done.returncode == 130 and done.stderr.endswith("flic: interrupted\n")
    assert not (here / "a.flic").exists()


def test_workers_for_an_effort():
    """Processes, since torch computes, with room for what gradients keep."""
    made = Encode("tiny", None, "cpu", "float32", None, Rate(), False, "auto", 3)
    plain = Encode("tiny", None, "cpu", "float32", None, Rate(), False, "auto")
    assert plain.in_threads and not made.in_threads
    parrot = ROOT / "flic" / "assets" / "parrot.png"
    assert made.memory(parrot) > 10 * plain.memory(parrot)
