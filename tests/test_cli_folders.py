"""Folders on the command line: resumed, nothing lost, bad files listed."""

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from cli_tools import fails, pixels, png, run
from PIL import Image

import flic
from flic import container

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
        work = flic.Codec.encode_picture
        monkeypatch.setattr(
            flic.Codec, "encode_picture", lambda *a, **k: (calls.append(1), work(*a, **k))[1]
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
        work = flic.Codec.encode_picture
        calls = []

        def interrupted(*args, **options):
            calls.append(1)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return work(*args, **options)

        monkeypatch.setattr(flic.Codec, "encode_picture", interrupted)
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
