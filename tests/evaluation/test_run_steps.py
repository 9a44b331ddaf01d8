"""`flic eval --steps` and `--qualities`: a curve from one model."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import rate_distortion
import torch
from cli_tools import fails, run
from PIL import Image
from rescaled_models import rescaled

from flic import OptionError
from flic.cli.show import ASSETS
from flic.codec.codec import Codec
from flic.codec.rate import ITERATIONS, Rate
from flic.errors import FlicError
from flic.evaluation import select
from flic.evaluation.select import Place
from flic.format.step import float32
from flic.model import checkpoint, library, loading
from flic.pictures import metrics

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def picture(tmp_path_factory) -> Path:
    """A crop of a photograph, 176 by 168."""
    path = tmp_path_factory.mktemp("data") / "parrot.png"
    box = (100, 100, 276, 268)
    Image.open(ASSETS / "parrot.png").convert("RGB").crop(box).save(path)
    return path


@pytest.fixture(scope="module")
def varied(tmp_path_factory) -> Path:
    """The built-in weights with qualities, as a checkpoint."""
    path = tmp_path_factory.mktemp("models") / "varied.safetensors"
    checkpoint.save(loading.load_model("tiny"), path, quality_steps="4 0.25")
    return path


@pytest.fixture(scope="module")
def ladder(tmp_path_factory) -> Path:
    """A folder of two models of one rate each, which make a curve."""
    folder = tmp_path_factory.mktemp("ladder")
    for i, scale in enumerate((0.6, 1.5)):
        path, about = folder / f"{i}.safetensors", {"lambda": str(scale)}
        checkpoint.save(rescaled(scale), path, compact=True, metric="mse", **about)
    return folder


@pytest.fixture(scope="module")
def results(picture, varied, ladder, tmp_path_factory) -> Path:
    """What an evaluation with real files writes: a curve from one model, a ladder and JPEG."""
    out = tmp_path_factory.mktemp("out")
    models = ("-m", f"ours={varied}", "--single", ladder)
    options = ("--steps", "0.7,4,1", "--anchors", "jpeg", "--out", out)
    run("eval", "--data", picture, *models, *options)
    return out


def test_an_effort(picture, tmp_path):
    """Its files, its name in the report; not of estimates."""
    options = ("--data", picture, "-m", "tiny", "--effort", 1)
    done = run("eval", *options, "--json", "--out", tmp_path / "out")
    document = json.loads(done.stdout)
    assert document["settings"]["efforts"] == [1]
    [row] = document["curves"][0]["points"][0]["pictures"]
    data = Codec(loading.load_model("tiny")).encode(picture, strip=True, effort=1)
    assert row["bpp"] == metrics.bits_per_pixel(len(data), 176, 168)
    assert f"Effort 1: {ITERATIONS[1]} iterations" in (tmp_path / "out" / "results.md").read_text()
    fails("eval", *options, "--estimate", match="--effort is of whole files")


def test_several_efforts(picture):
    """Curves of their own, compared with one another."""
    options = ("--data", picture, "-m", "tiny", "--steps", "0.5,1,2,4")
    done = run("eval", *options, "--effort", "0,1", "--json")
    document = json.loads(done.stdout)
    assert list(curves(document)) == [f"FLIC tiny, effort {effort}" for effort in (0, 1)]
    [compared] = [each for each in document["bd_rate"] if each["metric"] == "psnr"]
    assert -20 < compared["bd_rate"] < 0
    for text, why in (("0,10", "0 to 9"), ("1,1", "twice"), ("a", "numbers")):
        fails("eval", *options, "--effort", text, match=why)


def curves(document: dict) -> dict[str, dict]:
    return {curve["name"]: curve for curve in document["curves"]}


def test_points_are_files_at_these_steps(results, picture, varied):
    """In the order of the rate, whatever the order of the list."""
    found = curves(json.loads((results / "results.json").read_text()))
    points = found["ours"]["points"]
    assert [point["name"] for point in points] == ["step 4", "step 1", "step 0.7"]
    assert [point["step"] for point in points] == [4, 1, float32(0.7)]
    codec, original = Codec(loading.load_model(varied)), np.asarray(Image.open(picture))
    for point in points:
        assert point["model"] == codec.fingerprint.hex() and point["quality"] is None
        file = codec.encode(picture, rate=Rate(step=point["step"]), strip=True)
        [row] = point["pictures"]
        assert row["bytes"] == len(file)
        assert row["psnr"] == metrics.psnr(original, codec.decode_picture(file).pixels)


def test_a_model_of_one_rate_stands_beside(results):
    """--single: two models make one curve at step 1, as they do without --steps."""
    found = curves(json.loads((results / "results.json").read_text()))
    assert list(found) == ["FLIC tiny", "ours", "JPEG"]
    assert len(found["FLIC tiny"]["points"]) == 2
    assert not any("step" in point for point in found["FLIC tiny"]["points"])


def test_bd_rate_of_the_curve(results):
    """Against JPEG and against the ladder, by an integration of its own."""
    document = json.loads((results / "results.json").read_text())
    found = curves(document)
    compared = {
        (c["curve"], c["reference"]): c for c in document["bd_rate"] if c["metric"] == "psnr"
    }
    assert set(compared) == {("ours", "JPEG"), ("FLIC tiny", "JPEG"), ("ours", "FLIC tiny")}
    for (curve, reference), comparison in compared.items():
        points = [
            [[point["mean"][key] for point in found[name]["points"]] for key in ("bpp", "psnr")]
            for name in (reference, curve)
        ]
        value = rate_distortion.bd_rate(*points, rate_distortion.pchip)
        assert comparison["bd_rate"] == pytest.approx(value, abs=1e-6)


def test_tables_name_model_and_step(results, varied):
    page = (results / "results.md").read_text()
    assert "| ours, step 0.7 |" in page and f"one model, {varied}" in page
    rows = csv.DictReader((results / "results.csv").read_text().splitlines())
    assert {row["point"] for row in rows if row["curve"] == "ours"} == {
        *("step 4", "step 1", "step 0.7")
    }
    assert "one model" in json.loads((results / "compressai-ours.json").read_text())["description"]


def test_estimates_at_qualities(picture, varied):
    """Of the likelihoods of a forward pass at the steps that the qualities are."""
    options = ("--estimate", "--qualities", "25,75", "--json")
    document = json.loads(run("eval", "--data", picture, "-m", varied, *options).stdout)
    (curve,) = document["curves"]
    assert curve["name"] == f"FLIC {varied}"
    points = curve["points"]
    assert [(point["quality"], point["step"]) for point in points] == [(25, 2), (75, 0.5)]
    assert [point["name"] for point in points] == ["quality 25 (step 2)", "quality 75 (step 0.5)"]
    model = loading.load_model(varied)
    x = torch.from_numpy(np.array(Image.open(picture))).permute(2, 0, 1)[None] / 255
    for point in points:
        with torch.no_grad():
            out = model(x, steps=torch.tensor([point["step"]]))
        bits = sum(-p.double().log2().sum() for p in out["likelihoods"].values())
        assert point["mean"]["bpp"] == pytest.approx(float(bits) / (176 * 168), rel=1e-6)


def test_every_model_is_a_curve_of_its_own(ladder, varied):
    rates = [Rate(step=2), Rate(step=1)]
    models = select.models([str(ladder), "tiny", f"x={varied}"], rates=rates)
    names = [f"FLIC {ladder / '0.safetensors'}", f"FLIC {ladder / '1.safetensors'}"]
    assert [model.curve for model in models] == [*names, "FLIC tiny", "x"]
    assert all(model.places == (Place(2.0), Place(1.0)) for model in models)
    for specs, singles in (([f"x={ladder}"], []), ([f"x={ladder / '0.safetensors'}"], ["x=tiny"])):
        with pytest.raises(FlicError, match=r"curve of its own.*'x' is.*-m CURVE=MODEL"):
            select.models(specs, rates=rates, singles=singles)
    (alone,) = select.models(["tiny"])
    assert alone.places == ()


def test_qualities_are_the_models_own(varied, tmp_path):
    (model,) = select.models([str(varied)], rates=[Rate(quality=0), Rate(quality=50)])
    assert model.places == (Place(4.0, 0), Place(1.0, 50))
    path = tmp_path / "damaged.safetensors"
    checkpoint.save(loading.load_model("tiny"), path, quality_steps="4")
    with pytest.raises(OptionError, match=r"damaged.safetensors: .* make no sense"):
        select.models([str(path)], rates=[Rate(quality=0)])


@pytest.mark.parametrize(
    "options, match",
    [
        (("--steps", "1,2", "--qualities", "5"), "give one of them"),
        (("--steps", "1,,2"), "--steps: want numbers separated by commas, not '1,,2'"),
        (("--qualities", "all"), "--qualities: want numbers"),
        (("--steps", "0.001"), "a step must lie between"),
        (("--steps", "nan"), "a step must lie between"),
        (("--qualities", "101"), "a quality must lie between"),
        (("--steps", "1,2,1"), "the same step twice"),
        (("--single", "tiny"), "--single is for use beside"),
        (("--qualities", "5,6", "-m", "tiny"), "tiny: this model does not say what steps"),
    ],
)
def test_refusals(options, match, picture, small_model, tmp_path, monkeypatch):
    """One line before any work."""
    monkeypatch.setattr(library, "WEIGHTS", tmp_path)
    checkpoint.save(small_model, tmp_path / "tiny.safetensors")
    fails("eval", "--data", picture, "--out", tmp_path / "out", *options, match=match)
    assert not (tmp_path / "out").exists()
