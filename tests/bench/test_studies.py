"""The studies, and the suites as a whole: `python -m benches NAME`, on little."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import bjontegaard
import numpy as np
import pytest
from PIL import Image

from benches import __main__ as benches
from benches.harness import document
from benches.harness.rows import read
from benches.studies import against, entropy_coders, rans_overhead, recipes
from flic.cli import app
from flic.evaluation import meter
from flic_kernels import native

pytestmark = pytest.mark.usefixtures("one_thread")
ROOT = Path(benches.__file__).parent
FOLDERS = ("suites", "studies")
MODES = ("encode", "decode")
SMALLEST = "widths=8,8,8 heads=4,4,4 latent=16 hyper=8 slices=2 ratio=2 depth=1"
LITTLE = ("--config", SMALLEST, "--batch-size", "1", "--crop", "128", "--no-linear-start")


@pytest.fixture
def command(capfd):
    """`python -m benches ARGUMENTS` in this process; what it prints. Its children print as well."""

    def run(*arguments) -> str:
        assert benches.main([*map(str, arguments)]) == 0
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
    found = read(tmp_path / "rows")
    assert [(row.case, row.mode) for row in found] == [("64x64", "encode"), ("64x64", "decode")]
    assert all(row.values["bytes"] > 0 and row.p50 > 0 and row.commit for row in found)
    assert all(5e7 < row.values["process_peak_bytes"] < own for row in found)


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


def test_cli_times_whole_processes(command, tmp_path):
    path = tmp_path / "rows.jsonl"
    found = command("cli", "--rounds", "1", "--size", "96x64", "-m", "tiny", "--json", path)
    for name in ("flic --help", "flic info", "flic encode", "flic decode", "decode, in process"):
        assert f"| {name} |" in found
    encode = {row.impl: row for row in read(path)}["flic encode"]
    assert encode.p50 > 0 and 10e6 < encode.values["process_peak_bytes"] < 1e9


def test_cli_of_another_interpreter(command):
    with pytest.raises(SystemExit, match="flic --help failed"):
        command("cli", "--rounds", "1", "--size", "96x64", "-m", "tiny", "--python", "/bin/false")


@pytest.mark.parametrize("what", ["step", "picture"])
def test_against_another_commit(command, tmp_path, monkeypatch, what):
    """The other commit is this one: building takes minutes."""
    monkeypatch.setattr(against, "checked_out", lambda commit: against.ROOT)
    options = ("--what", what, "--batch", 1, "--rounds", 1, "--calls", 4)
    rows = table(command("against", "HEAD", *options, "--json", tmp_path / "rows"))
    assert [row[0] for row in rows] == ["HEAD", "now", "ratio"]
    before, now = read(tmp_path / "rows")
    assert (before.impl, now.impl) == ("HEAD", "now")
    assert before.rounds == now.rounds == 1
    parts = {"step": ["step", "forward", "backward", "optimisers"], "picture": ["encode", "decode"]}
    assert list(now.stages) == parts[what]
    assert now.values["process_peak_bytes"] < before.values["process_peak_bytes"] * 1.5
    least, median, most = map(float, rows[2][1].split(", "))
    assert 0 < least <= median <= most


@pytest.mark.parametrize("wrong", [["nothing-of-that-name"], ["HEAD", "--calls", "3"]])
def test_against_what_is_not_there(wrong):
    with pytest.raises(SystemExit) as error:
        against.main(wrong)
    assert error.value.code == 2 or "is no commit here" in error.value.code


def test_step_profile_adds_up(command):
    rows = table(command("step_profile", "--batch", 1, "--crop", 128, "--steps", 1))
    assert {"`fat_block`", "`conv3x3`", "`gdn`"} < {row[0] for row in rows}
    *parts, whole = ([float(cell or 0) for cell in row[2:]] for row in rows)
    assert sum(map(sum, parts)) == pytest.approx(sum(whole), abs=1.0)


def test_tables_go_into_documents(command, tmp_path):
    """By the study's name or by another; a document without such a part is refused at once."""
    page = tmp_path / "page.md"
    page.write_text("Before.\n<!-- traffic: begin -->\nold\n<!-- traffic: end -->\nAfter.\n")
    text = command("traffic", "--write", page)
    assert page.read_text() == (
        f"Before.\n<!-- traffic: begin -->\n{text}<!-- traffic: end -->\nAfter.\n"
    )
    with pytest.raises(SystemExit, match="2"):
        command("traffic", "--write", f"{page}:elsewhere")
    results = tmp_path / "results.md"
    results.write_text("`command`\n\n| mean of 2 | x |\n\n| curve | y |\n\nsmall, step 1\n")
    document.main([f"{page}:traffic", str(results)])
    assert document.part(page, "traffic") == "| mean of 2 | x |\n\n| curve | y |"


def test_figures(command, photos, tmp_path):
    out = tmp_path / "figures"
    command("figures", "--photos", photos, "--out", out)
    sizes = {path.name: Image.open(path).size for path in out.iterdir()}
    assert sorted(sizes) == ["benchmarks.png", "rate-distortion.png", "side-by-side.png"]
    assert sizes["side-by-side.png"] == (4 * 392 - 8, 430)
    for path in out.iterdir():
        assert 20_000 < path.stat().st_size < 500_000


def test_traffic_counts_every_block(command):
    assert "| FAT block 96/8 |" in command("traffic")


def test_optimizers_times_both(command):
    ours, theirs = command("optimizers").splitlines()
    assert ours.startswith("flic.training.optimizers.Muon: ")
    assert theirs.startswith("torch.optim.Muon: ")


def test_exact_engine_on_every_instruction_set(command, tmp_path):
    path = tmp_path / "new" / "rows"
    little = ("--config", "tiny", "--size", 128, 128, "--threads", 1, "--repetitions", 1)
    rows = table(command("exact_engine", *little, "--json", path))
    isas = [isa for isa in native.available_isas() if isa != "scalar"]
    assert [row[0] for row in rows] == isas
    assert [(row.isa, row.case) for row in read(path)] == [(i, "tiny 128x128") for i in isas]
    assert all(row.values["share_of_peak"] > 0 for row in read(path))


def test_entropy_coders(command, tmp_path, monkeypatch):
    monkeypatch.setattr(entropy_coders, "OPTIONAL", ())
    path = tmp_path / "rows"
    little = ("--symbols", 2000, "--rate", 1, "--rate", 2, "--repeats", 1)
    cells = table(command("entropy_coders", *little, "--json", path))
    coders = ["CompressAI", *(f"flic_kernels {isa}" for isa in native.available_isas())]
    assert [row[0] for row in cells] == coders and {len(row) for row in cells} == {9}
    found = read(path)
    modes = [mode for _ in range(2 * len(coders)) for mode in MODES]
    assert [row.mode for row in found] == modes and found[0].impl == "CompressAI"
    assert all(row.p50 > 0 and row.values["bytes"] > 0 and row.versions for row in found)


def test_rans_overhead_has_a_line_for_each_case(command, monkeypatch, tmp_path):
    monkeypatch.setattr(rans_overhead, "CASES", [(2000, 1.0), (1000, 0.5)])
    cells = table(command("rans_overhead", "--json", tmp_path / "rows"))
    assert [row[:2] for row in cells] == [["2000", "1.00"], ["1000", "0.50"]]
    assert all(len(row) == 13 for row in cells)
    found = read(tmp_path / "rows")
    assert [(row.op, row.case, row.values["bits each"]) for row in found] == [
        ("rans_overhead", "2000", "1.00"),
        ("rans_overhead", "1000", "0.50"),
    ]


def test_recipes_trains_and_compares(command, photos, tmp_path, monkeypatch):
    """The runs' own options, on the smallest model, in this process; none is made again."""
    commands = []

    def flic(arguments, check):
        commands.append([str(argument) for argument in arguments])
        program = commands[-1].index("flic")
        assert not app([*commands[-1][program + 1 :], *LITTLE], standalone_mode=False)

    def bd_rate(*curves, measured=bjontegaard.bd_rate, **options):
        """Of other curves: those of untrained models are points, which have none."""
        assert [len(values) for values in curves] == [3] * 4
        return measured([1, 2, 3], [30, 31, 32], [2, 4, 6], [30, 31, 32], **options)

    for part in ("train", "eval"):
        (photos / part).mkdir()
        save_ramp(photos / part, 192, 192)
    monkeypatch.setattr(subprocess, "run", flic)
    monkeypatch.setattr(bjontegaard, "bd_rate", bd_rate)
    monkeypatch.setattr(recipes, "changes", lambda steps: {"the fast recipe": []})
    given = ("recipes", "--photos", photos, "--steps", 1, "--out", tmp_path / "out")
    printed = command(*given)
    assert len(commands) == 4
    assert re.search(r"^\| the fast recipe \| [\d.]+ \| [\d.]+", printed, re.MULTILINE)
    assert len(re.findall(r"^\| lambda [\d.]+ alone ", printed, re.MULTILINE)) == 3
    assert "BD-rate of the one model against the 3: +100.0 %" in printed
    command(*given)
    assert len(commands) == 4


def test_suites_run(command, tmp_path, outside_xdist):
    """What a run on tiny inputs shows of every suite in seconds."""
    where = ("--rows", tmp_path / "rows", "--chart", tmp_path / "chart")
    some = ("--dtypes", "float32", "-k", "gdn and not conv or tca or decode or crops")
    command(*benches.SUITES, "--small", "--no-compile", *some, *where)
    found = read(tmp_path / "rows")
    assert {row.op for row in found} == {"gdn", "tca", "decode", "crops, kept", "crops, decoded"}
    assert {row.status for row in found} == {"ok"}


def test_the_list_names_every_suite_and_study(command):
    lines = command("--list").splitlines()
    named = {line.split()[0] for line in lines if line.startswith("  ")}
    files = {path.stem for folder in FOLDERS for path in (ROOT / folder).glob("[!_]*.py")}
    assert named == files - {"conftest"}
    assert all(len(line) < 120 and line.endswith(".") for line in lines if line.startswith("  "))


def test_imports_lead_from_suites_and_studies_to_the_harness():
    for folder in ("harness", *FOLDERS):
        for path in (ROOT / folder).glob("*.py"):
            found = re.findall(r"^ *(?:from|import) benches\b(\S*)", path.read_text(), re.MULTILINE)
            assert all(name.startswith(".harness") for name in found), path


def test_kept_rows_are_readable():
    """Beside them are the tables of `flic eval`."""
    for path in (ROOT / "results").iterdir():
        if path.suffix == ".csv":
            assert path.read_text().startswith("curve,point,picture,")
        else:
            assert read(path), path
