"""The options that choose the rate: what they write, what they say, what they find done."""

import json

import pytest
from cli_tools import fails, pixels, png, run, without_torch

import flic
from flic.codec.codec import Codec
from flic.format import container
from flic.model import checkpoint
from flic.pictures import metrics

pytestmark = pytest.mark.usefixtures("one_thread", "known_models")


@pytest.fixture
def here(tmp_path, monkeypatch, small_model):
    """A folder with a picture and a model that has qualities."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").write_bytes(png())
    checkpoint.save(small_model, tmp_path / "rates.safetensors", quality_steps="4 0.25")
    return tmp_path


def read(path):
    return container.unpack(path.read_bytes())


def test_step_and_quality(here):
    assert "step" not in run("encode", "a.png", "a.flic").stdout
    plain = (here / "a.flic").read_bytes()
    assert ", step 2," in run("encode", "a.png", "b.flic", "--step", "2").stdout
    run("encode", "a.png", "c.flic", "-q", "25", "-m", "rates.safetensors")
    assert (here / "b.flic").read_bytes() == (here / "c.flic").read_bytes() != plain
    assert (read(here / "a.flic").version, read(here / "b.flic").step) == (1, 2)
    assert "step 2\n" in run("info", "b.flic").stdout
    assert json.loads(run("info", "b.flic", "--json").stdout)["step"] == 2
    run("decode", "b.flic", "b.png")
    run("verify", "b.flic")


def test_targets(here, small_model):
    least = len(flic.encode("a.png", small_model, step=64))
    size = 2 * least
    text = run("encode", "a.png", "a.flic", "--target-size", size).stdout
    assert least < (here / "a.flic").stat().st_size <= size and "step" in text
    bpp = 8 * size / (40 * 30)
    run("encode", "a.png", "b.flic", "--target-bpp", bpp)
    assert abs(8 * (here / "b.flic").stat().st_size / (40 * 30) / bpp - 1) <= 0.01
    made = json.loads(run("encode", "a.png", "c.flic", "--target-psnr", "9", "--json").stdout)
    decoded = Codec(small_model).decode_picture((here / "c.flic").read_bytes()).pixels
    assert made["reached"] == metrics.psnr(decoded, pixels())
    assert (made["target"], made["step"]) == ("psnr", read(here / "c.flic").step)


def test_a_target_out_of_reach_is_said_on_stderr(here):
    result = run("encode", "a.png", "a.flic", "--target-size", "3")
    assert "a.png: no step gives 3 bytes; the nearest has" in result.stderr
    assert read(here / "a.flic").step == 64
    assert run("encode", "a.png", "a.flic", "--target-size", "3", "--quiet").stderr == ""
    made = json.loads(run("encode", "a.png", "a.flic", "--target-size", "3", "--json").stdout)
    assert made["missed"].startswith("no step gives")


def test_wrong_options(here):
    fails("encode", "a.png", "b.flic", "-q", "50", match="does not say what steps")
    fails("encode", "a.png", "b.flic", "-q", "50", "--step", "2", match="give one of them")
    fails("encode", "a.png", "b.flic", "--target-bpp", "-1", match="above 0")
    for wrong in (("-q", "101"), ("--step", "0"), ("--step", "nan"), ("--target-size", "x")):
        run("encode", "a.png", "b.flic", *wrong, code=2)
    (here / "in").mkdir()
    (here / "in" / "a.png").write_bytes(png())
    fails("encode", "in", "out", "-q", "50", match="does not say what steps")
    assert not (here / "b.flic").exists() and not (here / "out").exists()


def test_a_folder_at_another_rate_is_done_again(here):
    (here / "in").mkdir()
    for i in range(2):
        (here / "in" / f"{i}.png").write_bytes(png(i))
    encode = ("encode", "in", "out", "-m", "rates.safetensors")
    size = 2 * len(flic.encode(here / "in" / "0.png", "rates.safetensors", step=64))
    for options, times in (
        (("--step", "2"), 1),
        (("-q", "25"), 0),  # the same step
        (("-q", "75"), 1),
        ((), 1),
        (("--step", "1"), 0),
        (("--target-size", size), 1),
        (("--target-size", 2 * size), 1),
        (("--target-size", "1"), 1),  # out of reach: the coarsest, which is found done
        (("--target-psnr", "8"), 2),
    ):
        assert run(*encode, *options).stdout.startswith("2 done" if times else "0 done"), options
        again = without_torch(*encode, *options) if times < 2 else run(*encode, *options)
        assert again.stdout.startswith("2 done" if times == 2 else "0 done"), again.stderr
    assert "2 of the files miss the target" in run(*encode, "--target-size", "1", "--force").stderr


def test_compare_shows_the_rate_that_was_asked_for(here):
    row = json.loads(run("compare", "a.png", "--step", "3", "--json").stdout)
    assert row["step"] == 3 and row["bytes"] == len(flic.encode("a.png", step=3))
