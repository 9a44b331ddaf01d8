"""Training: resumed runs equal unbroken ones, bad steps change nothing, wrong use is refused."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from flic import checkpoint, training
from flic.cli import app
from flic.config import CONFIGS, Config
from flic.data import Crops
from flic.training import Recipe, Trainer, train

pytestmark = pytest.mark.usefixtures("one_thread")
MINI = Config(widths=(8, 8, 8), heads=(4, 4, 4), latent=16, hyper=8, slices=2, ratio=2, depth=1)


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Three smooth pictures, and a configuration `mini` that trains quickly."""
    monkeypatch.setitem(CONFIGS, "mini", MINI)
    folder = tmp_path / "data"
    folder.mkdir()
    for i in range(3):
        y, x = np.mgrid[:160, :150] / 25
        picture = np.stack([np.sin(x + i), np.cos(y - i), np.sin(x * y / 9)], axis=2)
        Image.fromarray((127.5 + 127.5 * picture).astype(np.uint8)).save(folder / f"{i}.png")
    return folder


def recipe(**change) -> Recipe:
    values = {"config": "mini", "steps": 4, "batch": 2, "crop": 128, "lr": 1e-3, "warmup": 2}
    return Recipe(**(values | change))


def losses(folder) -> list[str]:
    with (folder / "log.csv").open() as file:
        return [row["loss"] for row in csv.DictReader(file)]


def test_resumed_run_equals_an_unbroken_one(data, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(recipe(), data, whole, every=1)
    # Killed after two of four steps: the same recipe, stopped from outside.
    trainer = Trainer(recipe(), data)
    broken.mkdir()
    for _ in range(2):
        trainer.train_step()
    trainer.save(broken / "last.pth.tar")
    train(recipe(), data, broken, every=1)
    ends = [torch.load(p / "last.pth.tar", weights_only=True) for p in (whole, broken)]
    for part in ("state_dict", "averaged"):
        for name, value in ends[0][part].items():
            assert torch.equal(value, ends[1][part][name]), name
    assert len(losses(whole)) == 4
    model = checkpoint.load(whole / "model.safetensors")
    assert model.config == MINI
    assert model.metadata["lambda"] == "0.013"
    assert list(tmp_path.rglob("*.part")) == []


def test_training_learns(data):
    trainer = Trainer(recipe(steps=20, lr=4e-3), data)
    values = [trainer.train_step()["loss"] for _ in range(20)]
    assert np.mean(values[-5:]) < 0.8 * np.mean(values[:5])
    assert trainer.skipped == 0


def test_a_step_that_is_not_finite_changes_nothing(data):
    trainer = Trainer(recipe(), data)
    trainer.train_step()
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    picture = trainer.crops.pictures[0]
    good, trainer.crops = trainer.crops, [None, torch.full((2, 3, 128, 128), torch.nan)]
    trainer.train_step()
    assert trainer.skipped == 1
    for name, value in trainer.model.state_dict().items():
        assert torch.equal(value, before[name]), name
    trainer.crops = good
    trainer.train_step()
    assert trainer.skipped == 1 and picture is trainer.crops.pictures[0]


def test_another_recipe_is_refused(data, tmp_path):
    trainer = Trainer(recipe(), data)
    trainer.save(tmp_path / "last.pth.tar")
    other = Trainer(recipe(lmbda=0.05), data)
    with pytest.raises(ValueError, match="another lmbda: lmbda=0.013"):
        other.resume(tmp_path / "last.pth.tar")
    Trainer(recipe(steps=9), data).resume(tmp_path / "last.pth.tar")


def test_crops_follow_from_the_step(data):
    crops, again = Crops(data, 128, 4, seed=1), Crops(data, 128, 4, seed=1)
    assert torch.equal(crops[7], again[7])
    assert not torch.equal(crops[7], crops[8])
    assert crops[0].shape == (4, 3, 128, 128)
    assert 0 <= crops[0].min() < crops[0].max() <= 1
    with pytest.raises(ValueError, match="at least 200 x 200"):
        Crops(data, 200, 1)


def test_rate_distortion():
    x = torch.zeros(2, 3, 4, 4)
    out = {
        "x_hat": x + 0.1,
        "likelihoods": {"y": torch.full((2, 8), 0.5), "z": torch.full((2, 2), 0.25)},
    }
    terms = training.rate_distortion(out, x, lmbda=2.0)
    assert float(terms["bpp"]) == pytest.approx((16 + 8) / 32)
    assert float(terms["mse"]) == pytest.approx(0.01)
    assert float(terms["loss"]) == pytest.approx(2.0 * 65025 * 0.01 + 0.75)


def test_command(data, tmp_path):
    def run(*args):
        return CliRunner().invoke(app, ["train", "--config", "mini", *map(str, args)])

    options = ("--batch-size", 1, "--crop", 128, "--steps", 2)
    result = run("-d", data, "--save", tmp_path / "run", *options)
    assert result.exit_code == 0, result.stderr
    assert "model.safetensors: 2 steps" in result.stdout
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "last.pth.tar").write_bytes(b"PK")
    for wrong in (
        ("-d", tmp_path / "nothing", "--save", tmp_path / "x"),
        ("-d", data, "--save", tmp_path / "run", *options, "--lambda", 1),
        ("-d", data, "--save", tmp_path / "x", "--config", "huge"),
        ("-d", data, "--save", tmp_path / "x", "--device", "abacus"),
        ("-d", data, "--save", damaged, *options),
    ):
        result = run(*wrong)
        assert result.exit_code == 1
        assert result.stderr.startswith("flic: ") and result.stderr.count("\n") == 1
