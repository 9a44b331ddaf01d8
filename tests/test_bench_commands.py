"""The benchmarks that are commands of their own, started as a user starts them, on little."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flic.evaluation import meter

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def command(monkeypatch, capfd):
    """`python -m benches.ARGUMENTS` in this process; what it prints. Its children print as well."""

    def run(name, *arguments) -> str:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_module(f"benches.{name}", run_name="__main__")
        return capfd.readouterr().out

    return run


@pytest.fixture
def photos(tmp_path):
    """A folder of one picture of 96x64 pixels and something else."""
    folder = tmp_path / "photos"
    folder.mkdir()
    save_ramp(folder, 96, 64)
    (folder / "notes.txt").write_text("no picture")
    return folder


def save_ramp(folder: Path, width: int, height: int) -> None:
    ramp = np.add.outer(np.arange(height), np.arange(width)).astype(np.uint8)
    Image.fromarray(np.stack([ramp, 255 - ramp, ramp // 2], 2)).save(folder / "ramp.png")


def table(text: str) -> list[list[str]]:
    """The cells of a Markdown table's rows, its head and rule left out."""
    return [[cell.strip() for cell in row.split("|")[1:-1]] for row in text.splitlines()[2:]]


@pytest.mark.skipif(sys.platform != "linux", reason="VmHWM is Linux's")
def test_large_reports_each_process_memory_not_that_of_the_one_that_started_it(command, tmp_path):
    """getrusage's peak outlives exec, so a process started by a large one seems as large."""
    ballast = np.ones(500_000_000, np.uint8)
    command("large", "--config", "tiny", "--sizes", "64x64", "--json", tmp_path / "rows")
    own = meter.resident_bytes("VmRSS")
    assert own > ballast.nbytes
    rows = [json.loads(line) for line in (tmp_path / "rows").read_text().splitlines()]
    assert [(row["size"], row["mode"]) for row in rows] == [
        ("64x64", "encode"),
        ("64x64", "decode"),
    ]
    assert all(row["bytes"] > 0 and 5e7 < row["peak_bytes"] < own for row in rows)


def test_folders_encodes_and_decodes(command, photos):
    """A single picture is followed by none: its rate is unknown."""
    options = ("--config", "tiny", "--count", 1, "--jobs", 1)
    rows = table(command("folders", "--photos", photos, *options))
    assert [row[:2] for row in rows] == [["encode", "1"], ["decode", "1"]]
    for *_, seconds, rate in rows:
        assert float(seconds.removesuffix(" s")) > 0 and rate == "nan"


@pytest.mark.parametrize("seconds, rate", [((10, 12, 14), "0.250"), ((9, 9, 9), "nan")])
def test_folders_count_what_follows_the_first_and_use_the_model_given(
    command, photos, tmp_path, monkeypatch, seconds, rate
):
    """Files that came at these seconds, of half a megapixel each, with the model that -m names."""
    done = []
    for second in seconds:
        done.append({"output": str(tmp_path / f"{len(done)}"), "width": 1000, "height": 500})
        Path(done[-1]["output"]).touch()
        os.utime(done[-1]["output"], (second, second))
    commands = []

    def flic(arguments, **options):
        commands.append(arguments)
        return subprocess.CompletedProcess(arguments, 0, json.dumps({"done": done}))

    monkeypatch.setattr(subprocess, "run", flic)
    rows = table(command("folders", "--photos", photos, "-m", "other", "--jobs", 2))
    assert [row[-1] for row in rows] == [rate, rate]
    assert [given[given.index("-m", 3) + 1] for given in commands] == ["other", "other"]


def test_folders_without_pictures_are_refused(command, tmp_path, capfd):
    with pytest.raises(SystemExit):
        command("folders", "--photos", tmp_path)
    assert f"{tmp_path} has no pictures" in capfd.readouterr().err


def test_tiles_compares_whole_and_tiled_files(command, photos):
    rows = table(command("tiles", "--photos", photos, "--tile", 128, "--mirror", 2))
    assert [row[0] for row in rows] == ["ramp", "mean"] and rows[0][1:] == rows[1][1:]
    size, growth, *numbers = rows[0][1:]
    assert int(size) > 0 and growth.endswith(" %")
    assert len(numbers) == 8 and all(float(number) >= 0 for number in numbers)


def test_padding_is_relative_to_the_repeated_border(command, photos):
    save_ramp(photos, 430, 350)
    rows = table(command("padding", "--photos", photos))
    assert rows[0][:2] == ["repeated border", "1.000"] and len(rows) == 6
    assert all(float(bits) > 0 and psnr.endswith(" dB") for _, bits, psnr in rows)


def test_padding_refuses_pictures_smaller_than_its_crops(command, photos):
    with pytest.raises(SystemExit, match="ramp is smaller than 420x340"):
        command("padding", "--photos", photos)


def test_file_overhead_adds_up(command, photos):
    (row,) = table(command("file_overhead", "--photos", photos))
    name, ideal, size, over, *parts = row
    assert name == "ramp" and 0 < int(ideal) < int(size)
    over = int(re.match(r"[+-]\d+", over)[0])
    assert over == pytest.approx(int(size) - int(ideal), abs=1)
    assert sum(map(int, parts)) == pytest.approx(over, abs=2)


def test_traffic_counts_every_block(command):
    assert "| FAT block 96/8 |" in command("traffic")
