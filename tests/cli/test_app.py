"""The command line: what it prints, writes and refuses, and its exit codes."""

import io
import json
import os
from dataclasses import replace

import pytest
from cli_tools import fails, pixels, png, run
from PIL import Image

import flic
from flic.cli.show import ASSETS
from flic.format import container, stream
from flic.model import checkpoint, library, loading
from flic.pictures import images

pytestmark = pytest.mark.usefixtures("one_thread", "known_models")


class TestOneFile:
    def test_encode_and_decode(self, here, small_model):
        result = run("encode", "picture.png", "picture.flic")
        assert result.stdout.startswith("picture.flic: 40x30, ") and "bpp" in result.stdout
        data = (here / "picture.flic").read_bytes()
        assert data == flic.encode(pixels(), small_model)
        run("decode", "picture.flic", "back.png")
        expected = flic.decode(data, small_model)
        assert Image.open(here / "back.png").tobytes() == expected.tobytes()

    def test_json(self, here):
        result = json.loads(run("encode", "picture.png", "picture.flic", "--json").stdout)
        size = (here / "picture.flic").stat().st_size
        assert (result["width"], result["height"], result["bytes"]) == (40, 30, size)
        assert result["bpp"] == 8 * size / 1200 and result["seconds"] > 0
        decoded = json.loads(run("decode", "picture.flic", "back.png", "--json").stdout)
        assert decoded["model"] == result["model"]

    def test_stdin_and_stdout(self, here, small_model):
        data = run("encode", "-", "-", stdin=png()).stdout_bytes
        assert data == flic.encode(pixels(), small_model)
        picture = Image.open(io.BytesIO(run("decode", "-", "-", stdin=data).stdout_bytes))
        assert (picture.format, picture.size) == ("PNG", (40, 30))
        webp = run("decode", "-", "-", "--format", "webp", stdin=data).stdout_bytes
        assert Image.open(io.BytesIO(webp)).tobytes() == picture.tobytes()
        run("verify", "-", stdin=data)
        assert "40x30" in run("info", "-", stdin=data).stdout

    def test_an_existing_folder_as_out(self, here):
        (here / "out").mkdir()
        run("encode", "picture.png", "out")
        run("decode", "out/picture.flic", "out", "--format", "tiff")
        assert sorted(os.listdir(here / "out")) == ["picture.flic", "picture.tiff"]

    def test_strip(self, here):
        exif = Image.Exif()
        exif[0x010F] = "Maker"
        Image.fromarray(pixels()).save(here / "with.png", exif=exif)
        run("encode", "with.png", "a.flic", "--quiet")
        run("encode", "with.png", "b.flic", "--strip", "--quiet")
        assert container.unpack((here / "a.flic").read_bytes()).exif
        assert not container.unpack((here / "b.flic").read_bytes()).exif
        run("decode", "a.flic", "a.jpg", "--quiet")
        assert Image.open(here / "a.jpg").getexif()[0x010F] == "Maker"

    def test_no_overwrite(self, here):
        run("encode", "picture.png", "picture.flic", "--no-overwrite")
        before = (here / "picture.flic").read_bytes()
        (here / "picture.png").write_bytes(png(1))
        fails("encode", "picture.png", "picture.flic", "--no-overwrite", match="exists already")
        assert (here / "picture.flic").read_bytes() == before
        run("encode", "picture.png", "picture.flic")
        assert (here / "picture.flic").read_bytes() != before
        fails("decode", "picture.flic", "picture.png", "--no-overwrite", match="exists already")

    def test_files_of_others_are_kept_unless_told_otherwise(self, here):
        run("encode", "picture.png", "picture.flic")
        original = (here / "picture.png").read_bytes()
        fails("decode", "picture.flic", "picture.png", match="picture.png: exists, and flic did")
        fails("compare", "picture.png", "picture.png", match="flic did not write it (--overwrite")
        (here / "notes").write_text("mine")
        fails("encode", "picture.png", "notes", match="notes: exists, and flic did not write it")
        assert (here / "picture.png").read_bytes() == original
        assert (here / "notes").read_text() == "mine"
        run("encode", "picture.png", "notes", "--overwrite")
        for name in ("a.png", "a.jpg", "a.webp", "a.tiff"):
            run("decode", "picture.flic", name)
            run("decode", "picture.flic", name)  # flic's own are replaced
        run("decode", "picture.flic", "picture.png", "--overwrite")
        assert (here / "picture.png").read_bytes() == (here / "a.png").read_bytes()

    def test_demo_and_convert_replace_only_what_flic_wrote(self, here):
        (here / "shown").mkdir()
        (here / "shown" / "parrot.png").write_bytes(png())
        fails("demo", "shown", match="parrot.png: exists, and flic did not write it")
        assert (here / "shown" / "parrot.png").read_bytes() == png()
        (here / "weights.safetensors").write_text("mine")
        fails("convert", "small", "weights.safetensors", match="flic did not write it")
        run("convert", "small", "weights.safetensors", "--overwrite")
        run("convert", "small", "weights.safetensors")

    def test_models_by_name_path_and_folder(self, here, model_folder, monkeypatch):
        run("encode", "picture.png", "a.flic", "-m", "small")
        run("encode", "picture.png", "b.flic", "-m", model_folder / "small.safetensors")
        monkeypatch.setattr(library, "WEIGHTS", here)  # no longer built in
        (here / "retired.json").write_text("{}")
        run("encode", "picture.png", "c.flic", "-m", "small", "--models", model_folder)
        files = {(here / name).read_bytes() for name in ("a.flic", "b.flic", "c.flic")}
        assert len(files) == 1
        fails("decode", "a.flic", "a.png", match="flic convert")
        assert not (here / "a.png").exists()
        run("decode", "a.flic", "a.png", "--models", model_folder)
        run("decode", "a.flic", "b.png", "-m", model_folder / "small.safetensors")

    def test_tiles_and_regions(self, here, small_model):
        Image.fromarray(pixels(1, 200, 140)).save(here / "large.png")
        run("encode", "large.png", "whole.flic")
        run("encode", "large.png", "tiles.flic", "--tile", 128)
        data = (here / "tiles.flic").read_bytes()
        assert data == flic.encode(here / "large.png", small_model, tile=128)
        assert "4 tiles of 128 pixels" in run("info", "tiles.flic").stdout
        facts = [json.loads(run("info", f, "--json").stdout) for f in ("whole.flic", "tiles.flic")]
        assert [fact["tile"] for fact in facts] == [None, 128]
        assert [len(fact["latents_crc32"]) for fact in facts] == [1, 4]
        assert [fact["format_version"] for fact in facts] == [1, 2]
        assert run("verify", "tiles.flic").stdout == "tiles.flic: ok\n"
        for name in ("whole", "tiles"):
            run("decode", f"{name}.flic", "all.png")
            result = run("decode", f"{name}.flic", "part.png", "--crop", "100,20,60,110", "--json")
            assert json.loads(result.stdout)["width"] == 60
            whole, part = (Image.open(here / file) for file in ("all.png", "part.png"))
            assert part.tobytes() == whole.crop((100, 20, 160, 130)).tobytes()

    @pytest.mark.parametrize(("tile", "shows"), [("128", True), ("none", False)])
    def test_a_bar_shows_for_tiles_on_a_terminal(self, here, monkeypatch, tile, shows):
        monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes this for a terminal
        Image.fromarray(pixels(1, 200, 140)).save(here / "large.png")
        stderr = run("encode", "large.png", "large.flic", "--tile", tile).stderr
        assert ("large.png" in stderr and "100%" in stderr) == shows
        assert run("encode", "large.png", "a.flic", "--tile", tile, "--quiet").stderr == ""

    def test_threads(self, here):
        import torch

        before = torch.get_num_threads()
        try:
            run("encode", "picture.png", "picture.flic", "--threads", 2)
            assert torch.get_num_threads() == 2
        finally:
            torch.set_num_threads(before)


class TestErrors:
    @pytest.mark.parametrize(
        ("name", "data", "match"),
        [
            ("none.png", None, "No such file"),
            ("empty.png", b"", "empty"),
            ("text.png", b"hello", "not a PNG, JPEG, WebP, TIFF"),
            ("cut.png", png()[:-30], "broken"),
        ],
    )
    def test_pictures(self, here, name, data, match):
        if data is not None:
            (here / name).write_bytes(data)
        fails("encode", name, "out.flic", match=f"{name}: ")
        fails("encode", name, "out.flic", match=match)
        fails("compare", name, match=match)
        if data is not None:
            fails("encode", "-", "out.flic", stdin=data, match=match)
        assert not (here / "out.flic").exists()

    @pytest.mark.parametrize("command", [("decode", "bad.flic", "out.png"), ("info", "bad.flic")])
    def test_files(self, here, small_model, command):
        good = flic.encode(pixels(), small_model)
        for data, match in (
            (b"", "empty"),
            (png(), "not a .flic file"),
            (good[:-1], "ends early"),
            (good[:50] + b"?" + good[51:], "damaged"),
            (good + b"!", "damaged"),
            (good[:4] + b"\7" + good[5:], "version 7"),
        ):
            (here / "bad.flic").write_bytes(data)
            fails(*command, match=match)
            fails(*command, match="bad.flic: ")
        fails(command[0], "none.flic", *command[2:], match="none.flic: No such file")
        assert not (here / "out.png").exists()

    def test_models(self, here, model_folder):
        run("encode", "picture.png", "picture.flic")
        other = flic.FLIC(flic.Config(**library.entries()[0].config))
        from flic.model import checkpoint

        checkpoint.save(other, here / "other.safetensors")
        fails("decode", "picture.flic", "o.png", "-m", "other.safetensors", match="was made with")
        fails("verify", "picture.flic", "-m", "other.safetensors", match="was made with")
        fails("encode", "picture.png", "o.flic", "-m", "nothing", match="no model 'nothing'")
        fails("encode", "picture.png", "o.flic", "-m", "picture.png", match="picture.png: ")
        fails("encode", "picture.png", "o.flic", "--device", "abacus", match="abacus")
        assert sorted(os.listdir(here)) == ["other.safetensors", "picture.flic", "picture.png"]

    def test_outputs(self, here):
        run("encode", "picture.png", "picture.flic")
        fails("encode", "picture.png", "none/a.flic", match="there is no folder none")
        fails("encode", "picture.png", "picture.png", match="named like a picture")
        fails("encode", "picture.png", "a.JPG", match="named like a picture")
        fails("decode", "picture.flic", "a.gif", match="cannot write")
        fails("decode", "picture.flic", "a", match="cannot write")
        fails("decode", "picture.flic", ".", "--format", "gif", match="cannot write")
        Image.new("RGBA", (9, 9), (1, 2, 3, 4)).save(here / "clear.png")
        run("encode", "clear.png", "clear.flic")
        fails("decode", "clear.flic", "clear.jpg", match="transparency")
        assert not (here / "clear.jpg").exists()

    def test_tiles_and_regions(self, here):
        for size in ("100", "0", "half", "-128", "1e3"):
            fails(
                "encode", "picture.png", "a.flic", f"--tile={size}", match="the tile size must be"
            )
        run("encode", "picture.png", "a.flic")
        for crop in ("0,0,41,30", "40,0,1,1", "-1,0,5,5", "0,0,0,5"):
            fails(
                "decode", "a.flic", "a.png", f"--crop={crop}", match="does not lie in the picture"
            )
        for crop in ("1,2,3", "1,2,3,4,5", "a,b,c,d", "1.5,0,1,1", ""):
            fails("decode", "a.flic", "a.png", f"--crop={crop}", match="--crop takes X,Y")
        assert not (here / "a.png").exists()

    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
    def test_full_disk(self, here):
        fails("encode", "picture.png", "/dev/full", match="No space left")

    @pytest.mark.parametrize(
        "args",
        [
            (),
            ("frobnicate",),
            ("encode",),
            ("encode", "picture.png"),
            ("encode", "picture.png", "a.flic", "--nonsense"),
            ("encode", "picture.png", "a.flic", "--threads", "0"),
            ("encode", "picture.png", "-", "--json"),
            ("encode", ".", "-"),
            ("decode", ".", "-"),
            ("encode", "picture.png", "a.flic", "--jobs", "0"),
            ("decode", ".", "out", "--crop", "0,0,1,1"),
            ("compare", "picture.png", "a.jpg"),
            ("info",),
        ],
    )
    def test_usage(self, here, args):
        assert "Usage" in run(*args, code=2).output

    def test_out_of_memory(self, here, monkeypatch):
        def fail(*_, **__):
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ...")

        monkeypatch.setattr("flic.codec.codec.Codec.encode_at", fail)
        fails("encode", "picture.png", "picture.flic", match="not enough memory")


class TestOtherCommands:
    def test_info(self, here, model_folder, monkeypatch):
        Image.new("LA", (20, 10), (9, 8)).save(here / "la.png")
        run("encode", "la.png", "la.flic")
        run("encode", "picture.png", "picture.flic")
        text = run("info", "la.flic", "picture.flic").stdout
        assert "20x10 LA" in text and "40x30 RGB" in text and "(small)" in text
        facts = [json.loads(line) for line in run("info", "la.flic", "--json").stdout.splitlines()]
        assert [f["mode"] for f in facts] == ["LA"]
        assert facts[0]["bytes"] == (here / "la.flic").stat().st_size
        assert facts[0]["alpha_bytes"] > 0 and facts[0]["model_name"] == "small"
        monkeypatch.setattr(library, "WEIGHTS", here)
        (here / "retired.json").write_text("{}")
        assert "not known here" in run("info", "la.flic").stdout
        result = run("info", "picture.png", "la.flic", code=1)
        assert "20x10" in result.stdout and "not a .flic file" in result.stderr

    def test_verify(self, here):
        run("encode", "picture.png", "good.flic")
        data = container.unpack((here / "good.flic").read_bytes())
        coded = replace(stream.unpack(data.streams[0]), latents_crc=1)
        (here / "bad.flic").write_bytes(
            container.pack(replace(data, streams=(stream.pack(coded),)))
        )
        assert run("verify", "good.flic").stdout == "good.flic: ok\n"
        result = run("verify", "bad.flic", "good.flic", "--json", code=1)
        lines = [json.loads(line) for line in result.stdout.splitlines()]
        assert [line["ok"] for line in lines] == [False, True]
        assert "bad.flic: the stream decodes to other latents" in result.stderr

    def test_compare(self, here):
        Image.open(ASSETS / "parrot.png").crop((0, 0, 200, 170)).save(here / "parrot.png")
        text = run("compare", "parrot.png").stdout
        assert "parrot.compare.png" in text and "dB" in text and "bpp" in text
        figure = Image.open(here / "parrot.compare.png")
        assert figure.format == "PNG" and figure.width > 600
        row = json.loads(run("compare", "parrot.png", "x.png", "--json").stdout)
        assert row["psnr"] > 0 and "ms_ssim" not in row  # that would need torch
        assert row["encode_seconds"] > 0 and row["decode_seconds"] > 0
        assert (here / "x.png").read_bytes()[:4] == b"\x89PNG"

    @pytest.mark.parametrize(("width", "height"), [(1, 1), (3, 500), (2000, 11)])
    def test_compare_odd_sizes(self, here, width, height):
        run("encode", "-", "a.flic", stdin=png(width=width, height=height))
        row = json.loads(
            run("compare", "-", "--json", stdin=png(width=width, height=height)).stdout
        )
        assert row["psnr"] > 0 and (here / "stdin.compare.png").exists()

    def test_models(self, here, model_folder):
        text = run("models").stdout
        assert "small (default)" in text and "built in" in text and "0.01" in text
        (entry,) = map(json.loads, run("models", "--json").stdout.splitlines())
        assert entry["builtin"] and entry["default"] and entry["metadata"]["lambda"] == "0.01"
        text = run("models", "--models", model_folder).stdout
        assert str(model_folder) in text.replace("\n", "")

    def test_convert(self, here, small_model, model_folder):
        import torch

        torch.save({"state_dict": small_model.state_dict()}, here / "small.pth.tar")
        entry = library.entries()[0]
        text = run("convert", "small.pth.tar", "new.safetensors").stdout
        assert entry.fingerprint in text
        assert library.entries(here)[1].fingerprint == entry.fingerprint
        run("convert", "new.safetensors", "back.pth.tar")
        run("convert", entry.fingerprint, "back.safetensors")
        assert checkpoint.fingerprint(loading.load(here / "back.pth.tar")) == entry.fingerprint
        assert library.entries(here)[1].metadata["lambda"] == "0.01"
        fails("convert", "small.pth.tar", "new.png", match=".safetensors")
        fails("convert", "none.pth", "x.safetensors", match="none.pth")
        fails("convert", "picture.png", "x.safetensors", match="picture.png")
        options = ("convert", "small.pth.tar", "new.safetensors", "--no-overwrite")
        fails(*options, match="exists already")
        fails("convert", "small.pth.tar", "x.pth", "--lambda", "1", match="need a .safetensors")
        fails("convert", "small.pth.tar", "x.safetensors", "--metric", "psnr", match="ms-ssim")
        assert not (here / "x.safetensors").exists()

    def test_convert_says_what_a_model_was_trained_for(self, here, model_folder):
        options = ("--lambda", "8.73", "--metric", "ms-ssim")
        run("convert", "small", "new.safetensors", "--compact", *options)
        metadata = library.entries(here)[1].metadata
        assert (metadata["lambda"], metadata["metric"]) == ("8.73", "ms-ssim")
        assert metadata["fingerprint"] == library.entries()[0].fingerprint

    def test_convert_to_16_bits_with_qualities(self, here, model_folder):
        options = ("--half", "--compact", "--quality-steps", "4,0.25")
        text = run("convert", "small", "half.safetensors", *options).stdout
        entry = next(e for e in library.entries(here) if e.name == "half")
        assert entry.fingerprint in text and entry.metadata["lambda"] == "0.01"
        whole = (model_folder / "small.safetensors").stat().st_size
        assert (here / "half.safetensors").stat().st_size < 0.7 * whole
        run("encode", "picture.png", "a.flic", "-q", "0", "-m", "half.safetensors")
        assert container.unpack((here / "a.flic").read_bytes()).step == 4
        for wrong in ("4", "0.25,4", "4,x"):
            fails("convert", "small", "x.safetensors", "--quality-steps", wrong, match="steps")
        fails("convert", "small", "x.pth", "--half", match="need a .safetensors")

    def test_demo(self, here):
        text = run("demo", "shown").stdout
        for name in ("parrot", "dandelion"):
            assert name in text
            data = (here / "shown" / f"{name}.flic").read_bytes()
            original = images.read(ASSETS / f"{name}.png")
            assert container.unpack(data).width == original.width
            decoded = Image.open(here / "shown" / f"{name}.png")
            assert decoded.size == (original.width, original.height)
            assert (here / "shown" / f"{name}.compare.png").stat().st_size > 100_000
        rows = json.loads(run("demo", "shown", "--json").stdout)
        assert {row["input"] for row in rows} == {"parrot.png", "dandelion.png"}

    def test_version_and_help(self):
        assert run("--version").stdout == f"flic {flic.__version__}\n"
        for command in ("encode", "decode", "info", "verify", "compare", "models", "convert"):
            assert command in run("--help").stdout
            assert "Usage" in run(command, "--help").stdout
