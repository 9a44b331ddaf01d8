"""`flic eval`: its numbers against files of `flic encode` and definitions written anew in numpy."""

import csv
import io
import json
import math
import os
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import pytorch_msssim
import rate_distortion
import torch
from cli_tools import fails, pixels, run
from PIL import Image, features
from rescaled_models import rescaled

from flic.cli.show import ASSETS
from flic.evaluation import chart, published
from flic.model import checkpoint, loading

pytestmark = pytest.mark.usefixtures("one_thread")

SCALES = (0.6, 1.5)
CROPS = {"parrot": (100, 100), "dandelion": (300, 200)}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Two crops of photographs, one of them gray, in a folder and one below."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "below").mkdir()
    for name, (x, y) in CROPS.items():
        crop = Image.open(ASSETS / f"{name}.png").convert("RGB").crop((x, y, x + 192, y + 176))
        crop.save(folder / f"{name}.png")
    Image.open(folder / "dandelion.png").convert("L").save(folder / "below" / "gray.png")
    (folder / "dandelion.png").unlink()
    return folder


@pytest.fixture(scope="module")
def family(tmp_path_factory) -> Path:
    """Two models that make a curve, as checkpoints of two kinds."""
    folder = tmp_path_factory.mktemp("family")
    for i, scale in enumerate(SCALES):
        model = rescaled(scale)
        if i == 1:
            torch.save({"state_dict": model.state_dict()}, folder / f"{i}.pth.tar")
        else:
            checkpoint.save(model, folder / f"{i}.safetensors", compact=True)
    return folder


@pytest.fixture(scope="module")
def results(data, family, tmp_path_factory) -> Path:
    """What an evaluation with real files writes."""
    out = tmp_path_factory.mktemp("out") / "new" / "folder"
    run("eval", "--data", data, "-m", f"ours={family}", "--anchors", "jpeg", "--out", out)
    return out


def curves(out: Path) -> dict[str, dict]:
    return {
        curve["name"]: curve for curve in json.loads((out / "results.json").read_text())["curves"]
    }


def rgb(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


# pytorch_msssim rounds its window to float32: it sums to 1 within 1e-7, which times 255 squared
# stands against a constant of 58.5, hence up to 1e-4 in smooth places. With that window, 1e-6.
WINDOW = pytorch_msssim.MS_SSIM(channel=1).win.flatten().double().numpy()


def test_window():
    assert WINDOW == pytest.approx(rate_distortion.gaussian(), rel=5e-7)


def expected(original: np.ndarray, decoded: np.ndarray, size: float) -> dict:
    """The fields of a row by their definitions."""
    similarity = rate_distortion.ms_ssim(original, decoded, WINDOW)
    assert similarity == pytest.approx(rate_distortion.ms_ssim(original, decoded), abs=1e-4)
    return {
        "bytes": size,
        "bpp": 8 * size / (original.shape[0] * original.shape[1]),
        "psnr": pytest.approx(rate_distortion.psnr(original, decoded), abs=1e-9),
        "ms_ssim": pytest.approx(similarity, abs=1e-6),
        "ms_ssim_db": pytest.approx(-10 * math.log10(1 - similarity), abs=3e-4),
    }


class TestRealFiles:
    def test_numbers_are_those_of_files_coded_and_decoded(self, results, data, family, tmp_path):
        """Through the command line, file sizes by os.path.getsize, metrics from definitions."""
        model = str(family / "0.safetensors")
        point = next(p for p in curves(results)["ours"]["points"] if p["path"] == model)
        assert [row["picture"] for row in point["pictures"]] == ["below/gray.png", "parrot.png"]
        for row in point["pictures"]:
            picture, file, back = data / row["picture"], tmp_path / "a.flic", tmp_path / "a.png"
            run("encode", picture, file, "-m", model, "--strip")
            run("decode", file, back, "-m", model)
            right = expected(rgb(picture), rgb(back), os.path.getsize(file))
            assert {name: row[name] for name in right} == right
            assert (row["width"], row["height"]) == (192, 176)

    def test_anchor_is_pillows_file(self, results, data):
        (point,) = (p for p in curves(results)["JPEG"]["points"] if p["quality"] == 20)
        for row in point["pictures"]:
            out = io.BytesIO()
            image = Image.open(data / row["picture"])
            image.save(out, "JPEG", quality=20, optimize=True, subsampling="4:2:0")
            decoded = np.asarray(Image.open(out).convert("RGB"))
            right = expected(rgb(data / row["picture"]), decoded, len(out.getvalue()))
            assert {name: row[name] for name in right} == right

    def test_means_times_and_memory(self, results):
        for curve in curves(results).values():
            for point in curve["points"]:
                for name, mean in point["mean"].items():
                    values = [row[name] for row in point["pictures"]]
                    if name.startswith("forward"):
                        assert values == [None, None] and mean is None
                    elif name.endswith("peak_bytes"):
                        assert mean == max(values) and min(values) > 10e6
                    else:
                        assert mean == pytest.approx(sum(values) / 2, rel=1e-12)
                        assert min(values) > 0
        # torch is in the models' process and not in the anchor's
        peaks = [c["points"][0]["mean"]["encode_peak_bytes"] for c in curves(results).values()]
        assert peaks[0] > 3 * peaks[1]

    def test_bd_rate(self, results):
        """Against an integration of its own, from the means in the CSV file."""
        means = {}
        for row in csv.DictReader((results / "results.csv").read_text().splitlines()):
            if row["picture"] == "mean":
                means.setdefault(row["curve"], []).append(row)
        rows = json.loads((results / "results.json").read_text())["bd_rate"]
        assert [(c["curve"], c["reference"], c["metric"]) for c in rows] == [
            ("ours", "JPEG", "psnr"),
            ("ours", "JPEG", "ms_ssim_db"),
        ]
        for comparison in rows:
            points = [
                [[float(row[key]) for row in means[name]] for key in ("bpp", comparison["metric"])]
                for name in ("JPEG", "ours")
            ]
            value = rate_distortion.bd_rate(*points, rate_distortion.pchip)
            assert comparison["bd_rate"] == pytest.approx(value, abs=1e-6)
            assert comparison["low"] == max(q[0] for _, q in points)
            assert comparison["high"] == min(q[-1] for _, q in points)
            whole = max(q[-1] for _, q in points) - min(q[0] for _, q in points)
            shared = comparison["high"] - comparison["low"]
            assert comparison["overlap"] == pytest.approx(shared / whole, rel=1e-12)

    def test_the_written_files_agree(self, results):
        """CSV, Markdown and CompressAI's JSON hold what results.json holds."""
        found = curves(results)
        rows = list(csv.DictReader((results / "results.csv").read_text().splitlines()))
        pages = (results / "results.md").read_text()
        for name, curve in found.items():
            theirs = json.loads((results / f"compressai-{name}.json").read_text())
            assert theirs["name"] == name
            for i, point in enumerate(curve["points"]):
                mean, lines = point["mean"], [r for r in rows if r["point"] == point["name"]]
                assert len(lines) == 3 and float(lines[2]["psnr"]) == mean["psnr"]
                assert [float(line["bpp"]) for line in lines[:2]] == [
                    row["bpp"] for row in point["pictures"]
                ]
                assert (
                    f"| {name}, {point['name']} | {mean['bpp']:.4f} | {mean['psnr']:.3f} |" in pages
                )
                assert theirs["results"]["psnr-rgb"][i] == mean["psnr"]
                assert theirs["results"]["ms-ssim-rgb"][i] == mean["ms_ssim"]
        for phrase in ("8-bit", "whole file", "method pchip", "overlap", "VmHWM", "Pillow"):
            assert phrase in pages


class TestEstimate:
    def test_bits_are_the_likelihoods(self, data, tmp_path):
        """With the authors' padding: zeros around to 256, bits a pixel of the picture."""
        out = tmp_path / "out"
        options = ("--estimate", "--pad", 256, "--out", out, "--no-published", "-m", "tiny")
        run("eval", "--data", data / "below", *options)
        (curve,) = curves(out).values()
        assert curve["name"] == "FLIC tiny"
        (point,) = curve["points"]
        model = loading.load_model("tiny")
        for row in point["pictures"]:
            picture = rgb(data / "below" / row["picture"])
            framed = np.zeros((256, 256, 3), np.float32)
            framed[40 : 40 + 176, 32 : 32 + 192] = picture / np.float32(255)
            with torch.no_grad():
                result = model(torch.from_numpy(framed).permute(2, 0, 1)[None])
            bits = sum(-np.log2(p.double().numpy()).sum() for p in result["likelihoods"].values())
            x_hat = result["x_hat"][0].permute(1, 2, 0).numpy()[40 : 40 + 176, 32 : 32 + 192]
            x_hat = x_hat.clip(0, 1).mean(2, keepdims=True).repeat(3, 2)  # gray stays gray
            decoded = np.rint(x_hat * 255).astype(np.uint8)
            assert row["bpp"] == pytest.approx(bits / (192 * 176), rel=1e-6)
            assert row["psnr"] == pytest.approx(rate_distortion.psnr(picture, decoded), abs=1e-3)
            assert row["encode_seconds"] is None and row["forward_seconds"] > 0
        assert "forward, s" in (out / "results.md").read_text()

    def test_padding_of_real_files(self, data, tmp_path):
        """The file is that of the padded picture; what is around it does not count."""
        options = ("--pad", 256, "--out", tmp_path / "out", "-m", "tiny")
        run("eval", "--data", data / "parrot.png", *options)
        (point,) = curves(tmp_path / "out")["FLIC tiny"]["points"]
        picture = rgb(data / "parrot.png")
        framed = np.zeros((256, 256, 3), np.uint8)
        framed[40 : 40 + 176, 32 : 32 + 192] = picture
        Image.fromarray(framed).save(tmp_path / "framed.png")
        run("encode", tmp_path / "framed.png", tmp_path / "framed.flic", "-m", "tiny")
        run("decode", tmp_path / "framed.flic", tmp_path / "back.png")
        inside = rgb(tmp_path / "back.png")[40 : 40 + 176, 32 : 32 + 192]
        right = expected(picture, inside, os.path.getsize(tmp_path / "framed.flic"))
        (row,) = point["pictures"]
        assert {name: row[name] for name in right} == right


class TestChart:
    def test_files(self, results):
        image = Image.open(results / "rd.png")
        assert image.size == (1500, 720)
        text = (results / "rd.svg").read_text()
        assert text.startswith("<?xml") and "<svg" in text

    def test_same_numbers_give_the_same_bytes(self, evaluation):
        first = chart.draw(evaluation, (6, 3), 100)
        assert Image.open(io.BytesIO(first["png"])).size == (600, 300)
        with matplotlib.rc_context({"lines.linewidth": 9, "font.size": 30, "svg.hashsalt": "x"}):
            assert chart.draw(evaluation, (6, 3), 100) == first
        assert chart.draw(evaluation, (6, 3), 100, with_published=False) != first

    def test_published_points(self):
        """The model's page, copied once more."""
        assert [rate for rate, _ in published.MSE] == [
            0.1294,
            0.2003,
            0.2993,
            0.4372,
            0.6158,
            0.842,
        ]
        assert [q for _, q in published.MSE] == [29.640, 31.132, 32.702, 34.420, 36.170, 37.918]
        rates = [0.1209, 0.1719, 0.2407, 0.3262, 0.4443, 0.6089]
        assert [rate for rate, _ in published.MS_SSIM] == rates
        values = [13.859, 15.422, 16.909, 18.438, 20.041, 21.649]
        assert [q for _, q in published.MS_SSIM] == values


@pytest.fixture
def evaluation():
    from flic.evaluation import run as running
    from flic.evaluation.results import Curve, Point, Row

    def curve(name, kind, points):
        return Curve(
            name,
            kind,
            "",
            tuple(
                Point(str(i), {}, (Row("a", 9, 9, 9, rate, psnr, None, None),))
                for i, (rate, psnr) in enumerate(points)
            ),
        )

    drawn = (
        curve("ours", "model", [(0.2, 30.0), (0.4, 33.0), (0.6, math.inf)]),
        curve("JPEG", "anchor", [(0.2, 28.0), (0.5, 31.0), (3.0, 45.0)]),
    )
    return running.Evaluation(running.Settings(), (), drawn, (), "", {})


class TestRefusals:
    """One line, exit code 1, and nothing written."""

    def test_arguments(self, data, tmp_path):
        def refused(*options, match):
            fails("eval", "--out", tmp_path / "out", *options, match=match)
            assert not (tmp_path / "out").exists()

        refused("--data", data, "--anchors", "jpeg,gif", match="no anchor 'gif'")
        refused("--data", data, "--bd-method", "linear", match="pchip, akima, cubic")
        refused("--data", tmp_path, match="no .jpe .jpeg")
        refused("--data", tmp_path / "none", match="none: No such file")
        refused("--data", data, "-m", "nobody", match="no model 'nobody'")
        refused("--data", data, "-m", "a=tiny", "-m", "a=tiny", match="twice")
        refused("--data", data, "-m", f"a={tmp_path}", match="no checkpoints")
        refused("--data", data, "-m", data / "parrot.png", match="parrot.png")
        refused("--data", data, "--device", "nonsense", match="cannot use device")
        (tmp_path / "broken.png").write_bytes((data / "parrot.png").read_bytes()[:5000])
        refused("--data", tmp_path, match="broken.png")

    def test_where_results_cannot_go(self, data, tmp_path):
        (tmp_path / "file").write_text("x")
        fails("eval", "--data", data, "--out", tmp_path / "file", match="is not a folder")
        fails("eval", "--data", data, "--out", tmp_path / "file" / "out", match="cannot write")
        (tmp_path / "out" / "rd.png").mkdir(parents=True)
        fails("eval", "--data", data, "--out", tmp_path / "out", match="rd.png: is a folder")

    def test_files_of_others_are_kept(self, data, family, tmp_path):
        """A file under a result's name, found before anything is coded; own results go."""
        out = tmp_path / "out"
        command = ("eval", "--data", data / "parrot.png", "--estimate", "--out", out)
        command += ("-m", f"ours={family / '0.safetensors'}")
        out.mkdir()
        for name in ("results.json", "results.csv", "rd.svg", "compressai-ours.json"):
            (out / name).write_text('{"name": "mine"}')
            fails(*command, match=f"{name}: exists, and flic did not write it")
            assert [path.name for path in out.iterdir()] == [name]
            assert (out / name).read_text() == '{"name": "mine"}'
            (out / name).unlink()
        (out / "results.md").write_text("mine")
        run(*command, "--overwrite")
        assert "mine" not in (out / "results.md").read_text()
        run(*command)
        (out / "compressai-other.json").write_text("mine")
        other = ("-m", f"other={family / '0.safetensors'}")
        fails(*command[:-2], *other, match="compressai-other.json: exists")
        assert list(curves(out)) == ["ours"]

    def test_a_pillow_without_avif(self, data, monkeypatch):
        check = features.check
        monkeypatch.setattr(features, "check", lambda name: name != "avif" and check(name))
        fails("eval", "--data", data, "--anchors", "avif", match="install Pillow 11.3 or newer")


def test_the_published_command(small_model, tmp_path, one_thread):
    """On a flat state dict, as the published files are."""
    torch.save(small_model.state_dict(legacy_names=True), tmp_path / "checkpoint.pth.tar")
    (tmp_path / "kodak").mkdir()
    Image.fromarray(pixels()).save(tmp_path / "kodak" / "1.png")
    command = ("--checkpoint", tmp_path / "checkpoint.pth.tar", "--data", tmp_path / "kodak")
    if not torch.cuda.is_available():
        fails("eval", *command, "--cuda", match="cannot use device 'cuda'")
        fails("eval", *command, "--cuda", "--device", "cuda:1", match="device 'cuda:1'")
    for options, step in (((), "encode"), (("--real",), "encode"), (("--estimate",), "forward")):
        document = json.loads(run("eval", *command, *options, "--json").stdout)
        (curve,) = document["curves"]
        (point,) = curve["points"]
        assert point["model"] == checkpoint.fingerprint(small_model)
        assert point["mean"][f"{step}_seconds"] > 0


def test_every_anchor_codes(data, tmp_path):
    """WebP and AVIF as well, on a picture too small for MS-SSIM; JSON on stdout."""
    from flic.evaluation import coders, meter

    picture = Image.open(data / "parrot.png").crop((0, 0, 64, 48))
    picture.save(tmp_path / "small.png")
    for name in ("jpeg", "webp", "avif"):
        if not features.check(coders.ANCHORS[name].feature):
            continue
        anchor = coders.anchor(name)
        coder = coders.PillowCoder(anchor)
        coder.open()
        from flic.evaluation import select

        loaded = select.read(tmp_path / "small.png")
        low, high = (coder.code(loaded, q, meter.Meter()) for q in anchor.qualities[::8])
        assert low.bytes < high.bytes
        assert anchor.library in anchor.description
        assert rate_distortion.psnr(loaded.pixels, low.pixels) < rate_distortion.psnr(
            loaded.pixels, high.pixels
        )
    text = run("eval", "--data", tmp_path, "--estimate", "--json").stdout
    document = json.loads(text)
    assert document["curves"][0]["points"][0]["mean"]["ms_ssim"] is None
    assert any("under 161 pixels" in line for line in document["conventions"])


@pytest.mark.parametrize("way", ["--real", "--estimate"])
def test_precision(data, way):
    """bfloat16 changes a few bits and little else; the document says what was computed in."""
    found = []
    for dtype in ("float32", "bfloat16"):
        options = "--data", data / "parrot.png", "-m", "tiny", way, "--dtype", dtype, "--json"
        document = json.loads(run("eval", *options).stdout)
        assert document["settings"]["dtype"] == dtype
        assert any(f"transforms in {dtype}" in line for line in document["conventions"])
        found.append(document["curves"][0]["points"][0]["mean"])
    exact, low = found
    assert exact["psnr"] != low["psnr"] and abs(exact["psnr"] - low["psnr"]) < 0.2
    assert low["bpp"] == pytest.approx(exact["bpp"], rel=0.02)
