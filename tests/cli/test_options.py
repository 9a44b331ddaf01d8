"""Options are checked, and what is up to date is found, before torch or a model is loaded."""

import json
import os
import shutil
from pathlib import Path

import pytest
from cli_tools import fails, pixels, png, run, without_torch
from PIL import Image

from flic.model import library, loading

pytestmark = pytest.mark.usefixtures("one_thread", "known_models")


@pytest.fixture
def no_model(monkeypatch):
    monkeypatch.setattr(loading, "load_model", lambda *_, **__: pytest.fail("a model was loaded"))


def test_a_folder_with_nothing_to_do_needs_no_torch(here, model_folder):
    (here / "in").mkdir()
    for i in range(3):
        (here / "in" / f"{i}.png").write_bytes(png(i))
    model = model_folder / "small.safetensors"
    encode = ("encode", "in", "coded", "-m", model)
    decode = ("decode", "coded", "back", "-m", model)
    for command in (encode, decode):
        run(*command)
        result = without_torch(*command)
        assert result.returncode == 0, result.stderr
        assert result.stdout.startswith("0 done") and "3 skipped" in result.stdout
    assert without_torch(*encode, "--tile", "none", "-m", here / "none").returncode == 1


def test_what_another_model_made_is_not_up_to_date(here, model_folder):
    """By the fingerprint in the header of the model's file."""
    from flic import FLIC, Config
    from flic.model import checkpoint

    (here / "in").mkdir()
    (here / "in" / "a.png").write_bytes(png())
    run("encode", "in", "out")
    other = FLIC(Config(**library.entries()[0].config)).eval()
    checkpoint.save(other, here / "other.safetensors")
    checkpoint.save_torch(other, here / "other.pth")
    for model, done in (("other.safetensors", 1), ("other.pth", 0), ("small", 1)):
        result = json.loads(run("encode", "in", "out", "-m", model, "--json").stdout)
        assert (len(result["done"]), result["skipped"]) == (done, 1 - done)


@pytest.mark.parametrize("device", ["tpu", "abacus", "cuda:x", "CPU", "cpu:", ""])
@pytest.mark.parametrize(
    "command",
    [
        ("encode", "picture.png", "a.flic"),
        ("decode", "a.flic", "a.png"),
        ("encode", ".", "out"),
        ("verify", "a.flic"),
        ("compare", "picture.png"),
        ("encode-dataset", ".", "out"),
        ("train", "-d", ".", "--save", "run"),
        ("eval", "--data", "."),
    ],
)
def test_devices_that_there_are_not(here, no_model, command, device):
    fails(*command, f"--device={device}", match=f"cannot use device {device!r}")
    assert os.listdir(here) == ["picture.png"]


def test_a_wrong_device_or_type_needs_no_torch(here):
    for option in (["--device", "tpu"], ["--dtype", "float16"]):
        result = without_torch("encode", "picture.png", "a.flic", *option)
        assert result.returncode == 1 and option[1] in result.stderr, result.stderr
        assert result.stderr.count("\n") == 1


class TestDecode:
    @pytest.fixture
    def coded(self, here, request):
        run("encode", "picture.png", "a.flic")
        Image.new("LA", (20, 10), (9, 8)).save(here / "clear.png")
        run("encode", "clear.png", "clear.flic")
        request.getfixturevalue("no_model")
        return here

    def test_regions(self, coded):
        for crop in ("0,0,41,30", "40,0,1,1", "0,0,0,5"):
            fails("decode", "a.flic", "o.png", f"--crop={crop}", match="a.flic: the region")

    def test_alpha(self, coded):
        for suffix in ("jpg", "bmp"):
            fails("decode", "clear.flic", f"o.{suffix}", match="cannot hold transparency")
        (coded / "in").mkdir()
        shutil.move(coded / "clear.flic", coded / "in")
        result = run("decode", "in", "out", "--format", "jpg", code=1)
        assert "clear.flic: JPEG cannot hold transparency" in result.stderr
        assert not (coded / "out").exists()


@pytest.mark.skipif(os.name == "nt", reason="POSIX terminals")
def test_a_terminal_as_output(here):
    run("encode", "picture.png", "a.flic")
    ours, theirs = os.openpty()
    try:
        for command in (("encode", "picture.png", "-"), ("decode", "a.flic", "-")):
            result = without_torch(*command, stdout=theirs)
            assert result.returncode == 1 and "to a terminal" in result.stderr, result.stderr
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_folder_with_a_models_name(here, monkeypatch):
    """Names of models are names of models wherever flic is started."""
    from flic.evaluation import select

    (here / "small").mkdir()
    (here / "small" / "note.txt").write_text("x")
    for specs in ([], ["small"], ["curve=small"]):
        (model,) = select.models(specs)
        assert model.path == library.WEIGHTS / "small.safetensors"
    Image.fromarray(pixels()).save(here / "picture.png")
    with pytest.raises(Exception, match="no checkpoints"):
        select.models([str(Path("small").absolute())])


@pytest.mark.parametrize(
    "command",
    [
        ("encode", "picture.png", "a.flic"),
        ("decode", "a.flic", "a.png"),
        ("verify", "a.flic"),
        ("compare", "picture.png"),
        ("demo",),
        ("train", "-d", ".", "--save", "run"),
        ("eval", "--data", "."),
    ],
)
def test_more_threads_than_there_may_be(here, no_model, command):
    from flic_kernels.native import MAX_THREADS

    for count in (MAX_THREADS + 1, 99999):
        result = run(*command, "--threads", count, code=2)
        assert "--threads" in result.stderr and str(MAX_THREADS) in result.stderr
    assert os.listdir(here) == ["picture.png"]


def test_more_threads_than_there_may_be_in_all_workers(here, no_model):
    for options in (("--jobs", 3, "--threads", 200), ("--jobs", 257)):
        result = run("encode", ".", "out", *options, code=2)
        assert "256" in result.stderr
    assert os.listdir(here) == ["picture.png"]
