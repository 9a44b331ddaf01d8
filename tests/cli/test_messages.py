"""What the commands say: numbers, help, and names of files as they are."""

import json
import re

import pytest
import typer.main
from cli_tools import pixels, run
from PIL import Image

from flic.cli import app
from flic.format import container

pytestmark = pytest.mark.usefixtures("one_thread", "known_models")

COMMANDS = typer.main.get_command(app).commands
BRACKETED = re.compile(r"\[[^\[\]]+\]")


class TestRegions:
    """`flic decode --crop` tells of the region, and of the file it is from."""

    @pytest.fixture
    def large(self, here):
        Image.fromarray(pixels(1, 200, 140)).save(here / "large.png")
        run("encode", "large.png", "whole.flic")
        run("encode", "large.png", "tiles.flic", "--tile", 128)
        return here

    @staticmethod
    def decode(name: str, *options) -> dict:
        return json.loads(run("decode", name, "part.png", *options, "--json").stdout)

    def test_sizes_and_rates(self, large):
        for name, crop, streams in (
            ("whole.flic", "100,20,60,110", [0]),
            ("tiles.flic", "100,20,60,110", [0, 1, 2, 3]),
        ):
            data = (large / name).read_bytes()
            size = sum(len(container.unpack(data).streams[i]) for i in streams)
            result = self.decode(name, "--crop", crop)
            assert (result["width"], result["height"]) == (60, 110)
            assert result["bytes"] == size and result["bpp"] == 8 * size / (60 * 110)
            assert result["region"] == [100, 20, 60, 110]
            assert result["file"] == {
                "width": 200, "height": 140, "bytes": len(data), "bpp": 8 * len(data) / 28000,
            }  # fmt: skip
            line = run("decode", name, "part.png", "--crop", crop).stdout
            assert line.startswith("part.png: 60x110 of 200x140, ")
            assert f"{result['bpp']:.3f} bpp" in line

    def test_only_tiles_that_are_decoded_count(self, here):
        Image.fromarray(pixels(1, 600, 30)).save(here / "wide.png")
        run("encode", "wide.png", "wide.flic", "--tile", 128)
        streams = container.unpack((here / "wide.flic").read_bytes()).streams
        result = self.decode("wide.flic", "--crop", "0,0,9,9")
        assert result["bytes"] == sum(map(len, streams[:2])) and len(streams) == 5

    def test_the_whole(self, large):
        result = self.decode("tiles.flic")
        size = (large / "tiles.flic").stat().st_size
        assert (result["width"], result["height"], result["bytes"]) == (200, 140, size)
        assert "region" not in result and "file" not in result


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_what_stands_in_brackets(name):
    shown = " ".join(run(name, "--help").stdout.split())
    for parameter in COMMANDS[name].params:
        for text in (getattr(parameter, "help", None), parameter.metavar):
            for part in BRACKETED.findall(text or ""):
                assert part in shown, (parameter.name, part)


def test_names_of_files_in_brackets(here):
    Image.fromarray(pixels(1, 200, 170)).save(here / "[bold]a.png")
    assert "[bold]a.png" in run("compare", "[bold]a.png", "c.png").stdout


def test_names_in_brackets_on_the_bar(here, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes this for a terminal
    Image.fromarray(pixels(1, 200, 140)).save(here / "[bold]a.png")
    assert "[bold]a.png" in run("encode", "[bold]a.png", "a.flic", "--tile", 128).stderr


def test_info_tells_of_files_that_failed(here):
    run("encode", "picture.png", "good.flic")
    (here / "bad.flic").write_bytes(b"FLIC")
    result = run("info", "bad.flic", "good.flic", "--json", code=1)
    bad, good = map(json.loads, result.stdout.splitlines())
    assert good["file"] == "good.flic" and "error" not in good
    assert bad["file"] == "bad.flic" and bad["error"] in result.stderr


def test_compare_names_the_model_and_the_jpeg(here):
    Image.fromarray(pixels(1, 200, 170)).save(here / "a.png")
    row = json.loads(run("compare", "a.png", "c.png", "--json").stdout)
    jpeg = row["jpeg"]
    assert row["model_name"] == "small" and 1 <= jpeg["quality"] <= 95
    assert jpeg["bytes"] > 0 and jpeg["bpp"] == 8 * jpeg["bytes"] / 34000
    assert jpeg["psnr"] > 0 and jpeg["bytes"] > 0
    text = run("compare", "a.png", "c.png").stdout
    assert f"model small ({row['model']})" in text
    assert f"JPEG of quality {jpeg['quality']}, " in text and f"PSNR {jpeg['psnr']:.2f} dB" in text
