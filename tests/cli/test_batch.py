"""Folders on the command line: resumed, nothing lost, bad files listed."""

import errno
import json
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cli_tools import fails, pixels, png, run
from PIL import Image

import flic
from flic.format import container

pytestmark = pytest.mark.usefixtures("one_thread", "known_models")


class TestFolders:
    @pytest.fixture
    def folder(self, here) -> Path:
        """in/: two good pictures, one of them deeper; a broken one; a text; a hidden one."""
        (here / "in" / "deeper").mkdir(parents=True)
        (here / "in" / "a.png").write_bytes(png(1))
        (here / "in" / "deeper" / "b.PNG").write_bytes(png(2))
        (here / "in" / "bad.jpg").write_bytes(b"not a picture")
        (here / "in" / "notes.txt").write_text("x")
        (here / "in" / ".hidden.png").write_bytes(png(3))
        return here

    @staticmethod
    def files(folder: Path) -> list[str]:
        return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())

    def test_bad_files_are_listed_and_the_others_done(self, folder):
        result = run("encode", "in", "out", code=1)
        assert "2 done" in result.stdout and "1 failed" in result.stdout
        assert result.stderr.strip().splitlines()[-1].startswith("flic: in/bad.jpg: not a PNG")
        assert self.files(folder / "out") == ["a.flic", "deeper/b.flic"]
        (folder / "out" / "broken.flic").write_bytes(b"FLIC")
        result = run("decode", "out", "back", code=1)
        assert result.stderr.count("\n") == 1 and "out/broken.flic: " in result.stderr
        assert self.files(folder / "back") == ["a.png", "deeper/b.png"]
        for name, seed in (("a", 1), ("deeper/b", 2)):
            run("encode", "-", "one.flic", stdin=png(seed))
            run("decode", "one.flic", "one.png")
            one, back = (folder / "one.png").read_bytes(), folder / "back" / f"{name}.png"
            assert back.read_bytes() == one

    def test_resumed(self, folder, monkeypatch):
        (folder / "in" / "bad.jpg").unlink()
        calls = []
        work = flic.Codec.encode_at
        monkeypatch.setattr(
            flic.Codec, "encode_at", lambda *a, **k: (calls.append(1), work(*a, **k))[1]
        )

        def encoded(*options) -> int:
            calls.clear()
            result = json.loads(run("encode", "in", "out", "--json", *options).stdout)
            assert len(result["done"]) == len(calls) and result["failed"] == []
            assert len(calls) + result["skipped"] == len(self.files(folder / "in")) - 2
            return len(calls)

        assert encoded() == 2
        assert encoded() == 0
        assert encoded("--force") == 2
        (folder / "out" / "a.flic").unlink()
        assert encoded() == 1
        (folder / "in" / "c.png").write_bytes(png(4))
        assert encoded() == 1
        newer = time.time() + 5
        os.utime(folder / "in" / "a.png", (newer, newer))
        assert encoded("--no-overwrite") == 0
        assert encoded() == 1
        target = folder / "out" / "deeper" / "b.flic"
        target.write_bytes(target.read_bytes()[:-1])  # a damaged result is no result
        os.utime(folder / "in" / "a.png", (0, 0))
        assert encoded() == 1
        wrong = container.unpack(target.read_bytes())
        target.write_bytes(container.pack(replace(wrong, fingerprint=bytes(8))))
        assert encoded() == 1  # made by another model

    def test_decoding_resumed(self, folder):
        (folder / "in" / "bad.jpg").unlink()
        run("encode", "in", "out")
        first = json.loads(run("decode", "out", "back", "--json").stdout)
        second = json.loads(run("decode", "out", "back", "--json").stdout)
        assert (len(first["done"]), first["skipped"]) == (2, 0)
        assert (len(second["done"]), second["skipped"]) == (0, 2)

    def test_interrupted_and_resumed(self, folder, monkeypatch):
        (folder / "in" / "bad.jpg").unlink()
        work = flic.Codec.encode_at
        calls = []

        def interrupted(*args, **options):
            calls.append(1)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return work(*args, **options)

        monkeypatch.setattr(flic.Codec, "encode_at", interrupted)
        result = run("encode", "in", "out", code=130)
        assert "interrupted" in result.stderr
        assert self.files(folder / "out") == ["a.flic"]
        result = json.loads(run("encode", "in", "out", "--json").stdout)
        assert (len(result["done"]), result["skipped"]) == (1, 1)

    def test_names_that_would_collide(self, here):
        (here / "in").mkdir()
        for name in ("a.png", "a.webp", "A.PNG", "b.png"):
            Image.fromarray(pixels()).save(here / "in" / name)
        run("encode", "in", "out")
        assert sorted(os.listdir(here / "out")) == [
            "A.PNG.flic", "a.png.flic", "a.webp.flic", "b.flic",
        ]  # fmt: skip

    def test_in_place(self, folder):
        (folder / "in" / "bad.jpg").unlink()
        run("encode", "in", "in")
        assert "in/a.flic" in self.files(folder)

    def test_refused(self, folder):
        (folder / "empty").mkdir()
        fails("encode", "empty", "out", match="empty: no")
        fails("decode", "in", "out", match="no .flic files")
        fails("encode", "in", "picture.png", match="is not a folder")
        fails("encode", "in", "out", "-m", "nothing", match="no model")
        assert not (folder / "out").exists()


class TestFilesOfOthers:
    """What flic did not write is never replaced unless told to."""

    @pytest.fixture
    def photos(self, here) -> Path:
        """photos/: originals in every format that is written too, and their .flic files."""
        (here / "photos" / "deeper").mkdir(parents=True)
        for name in ("a.png", "b.tiff", "deeper/c.png"):
            Image.fromarray(pixels(len(name))).save(here / "photos" / name)
        run("encode", "photos", "photos")
        return here / "photos"

    @staticmethod
    def contents(folder: Path) -> dict[str, bytes]:
        return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*.*g")}

    @pytest.mark.parametrize("newer", [False, True])
    @pytest.mark.parametrize("options", [(), ("--force",)])
    def test_originals_survive_decoding_beside_them(self, photos, newer, options):
        if newer:
            os.utime(photos / "a.png", (time.time() + 9,) * 2)
        before = self.contents(photos)
        result = run("decode", "photos", "photos", *options, code=1)
        assert "1 done" in result.stdout and "2 failed" in result.stdout
        lines = result.stderr.splitlines()
        assert len(lines) == 2 and all("flic did not write it" in line for line in lines)
        assert "photos/a.png" in lines[0] and "--overwrite" in lines[0]
        after = self.contents(photos)
        assert after.pop("b.png") and after == before

    def test_overwrite_replaces_them(self, photos):
        before = self.contents(photos)
        run("decode", "photos", "photos", "--overwrite")
        after = self.contents(photos)
        assert all(after[name] != data for name, data in before.items())
        assert json.loads(run("decode", "photos", "photos", "--json").stdout)["skipped"] == 3

    def test_no_overwrite_leaves_them_alone(self, photos):
        before = self.contents(photos)
        result = run("decode", "photos", "photos", "--no-overwrite")
        assert "1 done" in result.stdout and "2 skipped" in result.stdout
        assert {name: self.contents(photos)[name] for name in before} == before
        assert "Usage" in run("decode", "a", "b", "--overwrite", "--no-overwrite", code=2).output

    def test_what_flic_wrote_is_replaced(self, photos):
        run("decode", "photos", "out")
        os.utime(photos / "a.flic", (time.time() + 5,) * 2)
        again = json.loads(run("decode", "photos", "out", "--json").stdout)
        assert (len(again["done"]), again["skipped"]) == (1, 2)
        edited = Image.open(photos.parent / "out" / "a.png")
        edited.load()
        edited.putpixel((0, 0), (1, 2, 3))
        edited.save(photos.parent / "out" / "a.png", pnginfo=None)
        fails_line = run("decode", "photos", "out", "--force", code=1).stderr
        assert "out/a.png: exists" in fails_line and fails_line.count("\n") == 1

    def test_files_named_like_results(self, photos):
        (photos / "a.flic").write_text("notes of another program")
        result = run("encode", "photos", "photos", code=1)
        assert "photos/a.flic: exists" in result.stderr and "1 failed" in result.stdout
        assert (photos / "a.flic").read_text() == "notes of another program"
        run("encode", "photos", "photos", "--overwrite")
        assert (photos / "a.flic").read_bytes()[:4] == b"FLIC"


class TestNames:
    """What a picture became keeps its name, whatever comes beside it or goes."""

    @staticmethod
    def encode(here: Path) -> set[str]:
        run("encode", "in", "out")
        return {p.name for p in (here / "out").iterdir()}

    @pytest.fixture
    def first(self, here) -> Path:
        (here / "in").mkdir()
        (here / "in" / "foo.png").write_bytes(png(1))
        assert self.encode(here) == {"foo.flic"}
        time.sleep(0.02)  # clocks of file systems tick every 4 ms or so
        return here

    @pytest.mark.parametrize("time_of", ["now", "long ago"])
    @pytest.mark.parametrize("beside", ["foo.jpeg", "foo.webp"])
    def test_a_picture_beside_it(self, first, time_of, beside):
        before = (first / "out" / "foo.flic").read_bytes()
        Image.fromarray(pixels(2)).save(first / "in" / beside)
        if time_of == "long ago":
            os.utime(first / "in" / beside, (0, 0))
        names = {"foo.flic", f"{beside}.flic"}
        assert self.encode(first) == names
        assert (first / "out" / "foo.flic").read_bytes() == before
        run("encode", f"in/{beside}", "one.flic")
        one = (first / "one.flic").read_bytes()
        assert (first / "out" / f"{beside}.flic").read_bytes() == one
        (first / "in" / "foo.png").write_bytes(png(3))
        assert self.encode(first) == names
        assert (first / "out" / "foo.flic").read_bytes() != before
        assert (first / "out" / f"{beside}.flic").read_bytes() == one
        (first / "in" / "foo.png").unlink()
        assert self.encode(first) == names

    def test_a_change_and_a_neighbour_at_once(self, first):
        """Whose the file was is not known then; what counts is that each has its own."""
        time.sleep(0.02)
        (first / "in" / "foo.png").write_bytes(png(5))
        Image.fromarray(pixels(6)).save(first / "in" / "foo.webp", lossless=True)
        names = self.encode(first)
        for name, seed in (("foo.png", 5), ("foo.webp", 6)):
            run("encode", "-", "one.flic", stdin=png(seed))
            one = (first / "one.flic").read_bytes()
            assert f"{name}.flic" in names and (first / "out" / f"{name}.flic").read_bytes() == one
        assert self.encode(first) == names

    def test_names_that_look_like_those_of_results(self, first):
        (first / "in" / "foo.png.png").write_bytes(png(2))
        (first / "in" / "foo.jpg").write_bytes(png(3))
        names = {"foo.flic", "foo.png.png.flic", "foo.jpg.flic"}
        assert self.encode(first) == names
        assert self.encode(first) == names
        assert len({p.read_bytes() for p in (first / "out").iterdir()}) == 3


class TestInputs:
    """Every still picture is taken; what is left out is counted."""

    @pytest.fixture
    def mixed(self, here) -> Path:
        """in/: a picture in each format, one without suffix, others that are none, a loop."""
        (here / "in").mkdir()
        (here / "elsewhere").mkdir()
        image = Image.fromarray(pixels())
        for name in ("a.bmp", "b.gif", "c.jp2", "d.ppm", "e.avif"):
            image.save(here / "in" / name)
        image.save(here / "in" / "f", "PNG")
        image.save(here / "elsewhere" / "g.png")
        (here / "in" / "linked").symlink_to(here / "elsewhere")
        (here / "in" / "loop").symlink_to(here / "in")
        (here / "in" / "notes.txt").write_text("x")
        (here / "in" / "Makefile").write_text("all:")
        (here / "in" / ".hidden.png").write_bytes(png())
        return here

    def test_a_folder(self, mixed):
        result = json.loads(run("encode", "in", "out", "--json").stdout)
        names = {Path(done["input"]).relative_to("in").as_posix() for done in result["done"]}
        assert names == {"a.bmp", "b.gif", "c.jp2", "d.ppm", "e.avif", "f", "linked/g.png"}
        assert set(result["left_out"]) == {
            "in/notes.txt", "in/Makefile", "in/.hidden.png", "in/loop",
        }  # fmt: skip
        assert (mixed / "out" / "linked" / "g.flic").is_file() and (
            mixed / "out" / "f.flic"
        ).is_file()
        text = run("encode", "in", "out").stdout
        assert "0 done" in text and text.endswith("7 skipped, 0 failed, 4 left out\n")
        result = json.loads(run("decode", "out", "in", "--format", "avif", "--json", code=1).stdout)
        assert len(result["done"]) == 6  # e.avif is not flic's

    def test_several_files(self, mixed):
        result = json.loads(run("encode", "in/a.bmp", "in/b.gif", "new/", "--json").stdout)
        assert len(result["done"]) == 2
        assert sorted(os.listdir("new")) == ["a.flic", "b.flic"]
        run("decode", "new/a.flic", "new/b.flic", "new", "--format", "webp", "--output-quality", 50)
        assert sorted(os.listdir("new")) == ["a.flic", "a.webp", "b.flic", "b.webp"]
        run("encode", "picture.png", "elsewhere", "all/")
        assert (mixed / "all" / "picture.flic").is_file()
        assert (mixed / "all" / "elsewhere" / "g.flic").is_file()
        run("encode", "picture.png", "one/")
        assert os.listdir("one") == ["picture.flic"]

    def test_several_files_that_are_refused(self, mixed):
        (mixed / "a.bmp").write_bytes((mixed / "in" / "a.bmp").read_bytes())
        fails("encode", "in/a.bmp", "a.bmp", "new/", match="would both become new/a.bmp.flic")
        for args in (
            ("in/a.bmp", "in/b.gif", "new"),
            ("in/a.bmp", "in/b.gif", "-"),
            ("-", "in/b.gif", "new/"),
        ):
            assert "Usage" in run("encode", *args, code=2).output
        assert not (mixed / "new").exists()

    def test_info_and_verify(self, mixed):
        run("encode", "elsewhere", "out")
        run("encode", "picture.png", "out")
        assert run("verify", "out").stdout == "out/g.flic: ok\nout/picture.flic: ok\n"
        facts = [json.loads(line) for line in run("info", "out", "--json").stdout.splitlines()]
        assert [fact["file"] for fact in facts] == ["out/g.flic", "out/picture.flic"]
        (mixed / "out" / "bad.flic").write_bytes(b"FLIC")
        result = run("verify", "out", code=1)
        assert result.stdout.count("ok") == 2 and "out/bad.flic" in result.stderr
        fails("info", "in", match="in: no .flic files in this folder")


class TestReports:
    def test_what_is_not_kept_is_said_in_one_line(self, here):
        (here / "in").mkdir()
        for name in ("a.png", "b.png"):
            Image.fromarray(pixels().astype(np.uint16)[..., 0] * 257).save(here / "in" / name)
        result = run("encode", "in/a.png", "a.flic")
        assert result.stderr == "flic: not kept: 16-bit samples\n"
        assert run("encode", "in/a.png", "a.flic", "--quiet").stderr == ""
        result = run("encode", "in/a.png", "a.flic", "--json")
        assert json.loads(result.stdout)["dropped"] == ["16-bit samples"] and result.stderr == ""
        assert run("encode", "in", "out").stderr == "flic: not kept: 16-bit samples (2x)\n"
        done = json.loads(run("encode", "in", "out", "--json", "--force").stdout)["done"]
        assert [row["dropped"] for row in done] == [["16-bit samples"]] * 2

    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
    def test_a_full_disk_ends_the_run(self, here, monkeypatch, number):
        (here / "in").mkdir()
        for i in range(3):
            (here / "in" / f"{i}.png").write_bytes(png(i))
        calls = []
        work = flic.Codec.encode_at
        monkeypatch.setattr(
            flic.Codec, "encode_at", lambda *a, **k: (calls.append(1), work(*a, **k))[1]
        )

        def full(_):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "fsync", full)
        fails("encode", "in", "out", match=f"out/0.flic: cannot write: {os.strerror(number)}")
        assert calls == [1] and os.listdir("out") == []

    def test_a_read_only_folder(self, here, monkeypatch):
        (here / "in").mkdir()
        (here / "in" / "a.png").write_bytes(png())
        make = os.mkdir

        def read_only(path, *args, **options):
            if Path(path).name == "out":
                raise OSError(errno.EROFS, os.strerror(errno.EROFS))
            make(path, *args, **options)

        with monkeypatch.context() as patch:
            patch.setattr(os, "mkdir", read_only)
            result = run("encode", "in", "out", code=1)
            assert result.stderr == "flic: in/a.png: out: is read-only\n"
            assert "Errno" not in run("encode-dataset", "in", "out", code=1).stderr
        monkeypatch.setattr(flic.Codec, "encode_at", lambda *_, **__: pytest.fail("worked first"))
        access = os.access
        monkeypatch.setattr(os, "access", lambda p, mode: mode != os.W_OK and access(p, mode))
        fails("encode", "in", "out", match="the folder is read-only")
