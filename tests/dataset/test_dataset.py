"""`flic encode-dataset`: shared out, resumed, idempotent; bad pictures listed and skipped."""

import hashlib
import importlib.util
import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cli_tools import fails, pixels, png, run
from PIL import Image
from processes import python

import flic
from flic.codec import opening
from flic.dataset import manifest, work
from flic.format import container
from flic.model import library
from flic_kernels import native

pytestmark = pytest.mark.usefixtures("one_thread", "known_models")


@pytest.fixture
def folder(here) -> Path:
    """in/: three good pictures, two of which have one name but for the suffix, and a broken one."""
    (here / "in" / "deeper").mkdir(parents=True)
    (here / "in" / "a.png").write_bytes(png(1))
    Image.fromarray(pixels(2)).save(here / "in" / "a.webp", lossless=True)
    (here / "in" / "deeper" / "b.PNG").write_bytes(png(3, width=20))
    (here / "in" / "bad.jpg").write_bytes(b"not a picture")
    (here / "in" / "notes.txt").write_text("x")
    return here


@pytest.fixture
def calls(monkeypatch) -> list:
    """Grows with every picture that is coded."""
    found = []
    encode = flic.Codec.encode_picture
    monkeypatch.setattr(
        flic.Codec, "encode_picture", lambda *a, **k: (found.append(1), encode(*a, **k))[1]
    )
    return found


def code(*args, code: int = 1) -> dict:
    """What --json says; the exit code is 1 where a picture was bad, as one of `folder` is."""
    return json.loads(run("encode-dataset", *args, "--json", code=code).stdout)


def counts(facts: dict) -> tuple[int, int, int]:
    return facts["encoded"], facts["up_to_date"], facts["failed"]


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_files_and_manifest(folder, model_folder):
    result = run("encode-dataset", "in", "out", code=1)
    assert "4 pictures: 3 encoded, 0 up to date, 1 bad" in result.stdout
    assert result.stderr.startswith("flic: bad.jpg: not a PNG, ") and result.stderr.count("\n") == 1
    names = ["a.png.flic", "a.webp.flic", "deeper/b.flic"]
    assert files(folder / "out") == [*names, "manifest.jsonl"]
    records = manifest.read(folder / "out" / "manifest.jsonl")
    assert [r.path for r in records] == ["a.png", "a.webp", "bad.jpg", "deeper/b.PNG"]
    (bad,) = [r for r in records if r.status == "failed"]
    assert bad == manifest.Record("bad.jpg", "failed", bad.error) and "broken" in bad.error
    (entry,) = library.entries()
    for record, name in zip([r for r in records if r is not bad], names, strict=True):
        data = (folder / "out" / name).read_bytes()
        assert data == flic.encode(folder / "in" / record.path)
        width = 20 if "deeper" in name else 40
        assert record == manifest.Record(
            path=record.path, status="ok", file=name, width=width, height=30, bytes=len(data),
            bpp=8 * len(data) / (width * 30), fingerprint=entry.fingerprint,
            sha256=hashlib.sha256(data).hexdigest(),
            step=1.0,
        )  # fmt: skip


def test_a_bad_picture_is_an_exit_code_and_a_number(folder):
    """In one line, whatever else is printed."""
    said = run("encode-dataset", "in", "out", "--quiet", code=1)
    assert said.stdout == ""
    assert said.stderr.splitlines()[1:] == [
        "flic: 1 of 4 pictures is bad: out/manifest.jsonl says why"
    ]
    assert "1 bad," in run("encode-dataset", "in", "out", code=1).stdout
    assert code("in", "out", code=1)["failed"] == 1
    (folder / "in" / "bad.jpg").unlink()
    assert run("encode-dataset", "in", "out", "--quiet", code=0).stderr == ""


def test_summary(folder):
    facts = code("in", "out")
    sizes = [(folder / "out" / name).stat().st_size for name in files(folder / "out")[:3]]
    assert facts["bytes"] == sum(sizes)
    assert facts["bpp"] == pytest.approx(8 * sum(sizes) / (2 * 40 * 30 + 20 * 30))
    assert 0 < facts["megapixels_per_second"] < 3e-3 / facts["seconds"] * 1.01
    assert facts["pictures"] == 4 and facts["manifest"] == "out/manifest.jsonl"


def test_a_second_run_changes_nothing(folder, calls):
    assert counts(code("in", "out")) == (3, 0, 1)
    before = {name: (folder / "out" / name).read_bytes() for name in files(folder / "out")}
    assert counts(code("in", "out")) == (0, 3, 1)
    assert len(calls) == 3
    assert {name: (folder / "out" / name).read_bytes() for name in before} == before


def test_a_stopped_run_goes_on(folder, calls, monkeypatch):
    code("in", "whole")
    calls.clear()
    write = work.write_file

    def stopped(path, data):
        if len(calls) == 2:
            raise KeyboardInterrupt
        write(path, data)

    monkeypatch.setattr(work, "write_file", stopped)
    assert "interrupted" in run("encode-dataset", "in", "out", code=130).stderr
    assert files(folder / "out") == ["a.png.flic"]
    monkeypatch.setattr(work, "write_file", write)
    assert counts(code("in", "out")) == (2, 1, 1)
    same = [(folder / name / "manifest.jsonl").read_bytes() for name in ("whole", "out")]
    assert same[0] == same[1]


def test_what_is_not_up_to_date_is_coded_again(folder, model_folder, calls):
    (folder / "in" / "bad.jpg").unlink()
    Image.fromarray(pixels(4)).save(folder / "in" / "c.png", exif=b"II*\0\x08\0\0\0\0\0\0\0\0\0")
    assert counts(code("in", "out", code=0)) == (4, 0, 0)
    target = folder / "out" / "deeper" / "b.flic"
    good = target.read_bytes()
    target.write_bytes(good[:-1])
    assert counts(code("in", "out", code=0)) == (1, 3, 0)
    assert target.read_bytes() == good
    other = replace(container.unpack(good), fingerprint=bytes(8))
    target.write_bytes(container.pack(other))
    assert counts(code("in", "out", code=0)) == (1, 3, 0)
    newer = time.time() + 5
    os.utime(folder / "in" / "a.png", (newer, newer))
    assert counts(code("in", "out", code=0)) == (1, 3, 0)
    os.utime(folder / "in" / "a.png", (0, 0))
    assert counts(code("in", "out", "--strip", code=0)) == (1, 3, 0)
    assert container.unpack((folder / "out" / "c.flic").read_bytes()).exif is None
    assert counts(code("in", "out", "--force", code=0)) == (4, 0, 0)


def test_files_of_others_are_kept(folder):
    (folder / "out" / "deeper").mkdir(parents=True)
    (folder / "out" / "deeper" / "b.flic").write_text("mine")
    assert counts(code("in", "out")) == (2, 0, 2)
    errors = {r.path: r.error for r in manifest.read(folder / "out" / "manifest.jsonl")}
    assert "flic did not write it" in errors["deeper/b.PNG"]
    assert (folder / "out" / "deeper" / "b.flic").read_text() == "mine"
    assert counts(code("in", "out", "--overwrite")) == (1, 2, 1)
    (folder / "out" / "manifest.jsonl").write_text("mine\n")
    fails("encode-dataset", "in", "out", match="manifest.jsonl: exists, and flic did not write it")
    assert (folder / "out" / "manifest.jsonl").read_text() == "mine\n"
    code("in", "out", "--overwrite")


def test_names_stay(folder):
    (folder / "in" / "a.webp").unlink()
    code("in", "out")
    before = (folder / "out" / "a.flic").read_bytes()
    time.sleep(0.02)
    Image.fromarray(pixels(2)).save(folder / "in" / "a.jpeg")
    code("in", "out")
    assert files(folder / "out") == ["a.flic", "a.jpeg.flic", "deeper/b.flic", "manifest.jsonl"]
    assert (folder / "out" / "a.flic").read_bytes() == before


def test_a_list_of_pictures(folder):
    inside = folder / "in"
    lines = ["a.png", "", "deeper/../deeper/b.PNG", " a.png ", "missing.png", "../picture.png"]
    (inside / "list.txt").write_text("\r\n".join([*lines, str(inside / "bad.jpg")]))
    assert counts(code("in/list.txt", "out")) == (3, 0, 2)
    records = manifest.read(folder / "out" / "manifest.jsonl")
    outside = str(folder / "picture.png")
    assert {r.path: r.file for r in records} == {
        "a.png": "a.flic",
        "deeper/b.PNG": "deeper/b.flic",
        outside: outside.removeprefix("/").replace(".png", ".flic"),
        "bad.jpg": None,
        "missing.png": None,
    }
    assert {r.path: r.error for r in records}["missing.png"] == "No such file or directory"
    assert set(files(folder / "out")) == {"manifest.jsonl", *(r.file for r in records if r.file)}


def test_tiles_and_precision(here, model_folder):
    (here / "in").mkdir()
    (here / "in" / "wide.png").write_bytes(png(5, width=150))
    options = "in", "out", "--tile", "128", "--dtype", "bfloat16"
    assert counts(code(*options, code=0)) == (1, 0, 0)
    data = (here / "out" / "wide.flic").read_bytes()
    assert data == flic.encode(here / "in" / "wide.png", tile=128, dtype="bfloat16")
    assert container.unpack(data).tile == 128
    assert counts(code(*options, code=0)) == (0, 1, 0)
    assert counts(code("in", "out", code=0)) == (1, 0, 0)
    assert container.unpack((here / "out" / "wide.flic").read_bytes()).tile is None


def test_names_that_are_no_text(folder):
    name = os.fsdecode(b"\xff.png")
    os.rename(folder / "in" / "a.png", folder / "in" / name)
    code("in", "out")
    assert name in [r.path for r in manifest.read(folder / "out" / "manifest.jsonl")]
    assert (folder / "out" / name.replace("png", "flic")).is_file()


def test_refused(folder):
    (folder / "empty.txt").write_text("\n\n")
    (folder / "empty").mkdir()
    fails("encode-dataset", "empty", "out", match="no .jpe")
    fails("encode-dataset", "empty.txt", "out", match="names no pictures")
    fails("encode-dataset", "nothing", "out", match="nothing: No such file")
    fails("encode-dataset", "in", "picture.png", match="is not a folder")
    fails("encode-dataset", "in", "out", "-m", "nothing", match="no model")
    fails("encode-dataset", "in", "out", "--device", "abacus", match="abacus")
    fails("encode-dataset", "in", "out", "--tile", "200", match="multiple of 128")
    fails("encode-dataset", "in", "out", "--dtype", "float8", match="float8")
    result = run("encode-dataset", "in", "out", "--workers", "2", code=2)
    assert "go with --ray" in result.stderr
    assert not (folder / "out").exists()


def test_an_output_that_cannot_be_written_ends_the_run(folder):
    (folder / "out").mkdir()
    (folder / "out" / "deeper").write_text("in the way")
    fails("encode-dataset", "in", "out", match="deeper: ")
    assert not (folder / "out" / "manifest.jsonl").exists()


def test_where_no_picture_is_good(here):
    (here / "in").mkdir()
    for i in range(25):
        (here / "in" / f"{i:02}.png").write_bytes(b"")
    result = run("encode-dataset", "in", "out", "--quiet", code=1)
    lines = result.stderr.splitlines()
    assert lines[0] == "flic: 00.png: the file is empty" and len(lines) == 22
    assert "5 more" in lines[20] and "no picture" in lines[21]
    assert len(manifest.read(here / "out" / "manifest.jsonl")) == 25


def test_another_rate_is_coded_again(folder, calls):
    code("in", "out", "--step", "2")
    records = [r for r in manifest.read(folder / "out" / "manifest.jsonl") if r.status == "ok"]
    assert {r.step for r in records} == {2.0}
    for options, again in ((("--step", "2"), 0), ((), 3), (("--step", "1"), 0)):
        calls.clear()
        code("in", "out", *options)
        assert len(calls) == again
    fails("encode-dataset", "in", "out", "-q", "50", match="does not say what steps")
    fails("encode-dataset", "in", "out", "--step", "2", "--target-bpp", "1", match="one of them")


def test_a_failure_of_any_kind_is_one_line_of_the_manifest(folder, monkeypatch):
    def broken(*args, **options):
        raise (RuntimeError("no\nluck") if args[1].width == 40 else MemoryError)

    monkeypatch.setattr(flic.Codec, "encode_picture", broken)
    run("encode-dataset", "in", "out", code=1)
    records = manifest.read(folder / "out" / "manifest.jsonl")
    assert {r.error for r in records if r.path != "bad.jpg"} == {
        "RuntimeError: no luck",
        "MemoryError",
    }


def test_a_worker_has_one_thread_and_loads_once(folder, monkeypatch):
    loads = []
    load = opening.open_codec
    monkeypatch.setattr(opening, "open_codec", lambda *a: (loads.append(1), load(*a))[1])
    threads = []
    encode = flic.Codec.encode_picture
    monkeypatch.setattr(
        flic.Codec, "encode_picture",
        lambda *a, **k: (threads.append(native.threads()), encode(*a, **k))[1],
    )  # fmt: skip
    torch.set_num_threads(2)
    code("in", "out")
    assert loads == [1] and threads == [1, 1, 1]


def test_two_processes_of_torchrun(folder, model_folder, calls):
    """They share the pictures, skip what is there, and write what one process writes."""
    model = ("-m", model_folder / "small.safetensors")  # by name it would be the built-in one
    code("in", "one")
    (folder / "two" / "deeper").mkdir(parents=True)
    (folder / "two" / "deeper" / "b.flic").write_bytes(
        (folder / "one" / "deeper" / "b.flic").read_bytes()
    )
    done = python(
        "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2,
        "-m", "flic", "encode-dataset", "in", "two", *model, "--json",
        cwd=folder, OMP_NUM_THREADS="1",
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert counts(json.loads(done.stdout)) == (2, 1, 1)
    assert done.stderr.count("bad.jpg") == 1
    assert files(folder / "one") == files(folder / "two")
    for name in files(folder / "one"):
        assert (folder / "one" / name).read_bytes() == (folder / "two" / name).read_bytes(), name
    calls.clear()
    assert counts(code("in", "two")) == (0, 3, 1) and calls == []


def test_without_ray(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    fails("encode-dataset", "in", "out", "--ray", match="pip install 'flic-kernels[ray]'")
    assert not (folder / "out").exists()


@pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed (the extra ray)"
)
def test_two_workers_of_ray(folder, model_folder):
    code("in", "one")
    (folder / "two").mkdir()
    (folder / "two" / "a.png.flic").write_bytes((folder / "one" / "a.png.flic").read_bytes())
    done = python(
        "-m", "flic", "encode-dataset", "in", "two", "-m", model_folder / "small.safetensors",
        "--ray", "--workers", 2, "--json", cwd=folder, OMP_NUM_THREADS="1",
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert counts(json.loads(done.stdout)) == (2, 1, 1)
    for name in files(folder / "one"):
        assert (folder / "one" / name).read_bytes() == (folder / "two" / name).read_bytes(), name
