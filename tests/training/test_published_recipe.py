"""`flic train` for who comes from the published train.py: its options, and its recipe."""

import numpy as np
import pytest
import torch
from cli_tools import fails, run
from PIL import Image
from pytorch_msssim import ms_ssim
from training_runs import QUICK, recipe, rows, write_pictures

from flic.model import loading
from flic.pictures import metrics
from flic.training import PUBLISHED, Options, Recipe, train
from flic.training.distributed import World
from flic.training.pictures import Pictures, scan
from flic.training.trainer import Trainer
from flic.training.validation import validate

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A checkpoint as the published ones are: a flat state dict."""
    path = tmp_path_factory.mktemp("start") / "start.pth.tar"
    torch.save(Trainer(recipe(seed=5)).model.state_dict(legacy_names=True), path)
    return path


class Stop(Exception):
    pass


@pytest.fixture
def asked(monkeypatch):
    """What `flic train` would run: recipe, data, save and the rest."""

    def ask(*options):
        seen = {}

        def note(recipe, data, save, **rest):
            seen.update(recipe=recipe, data=data, save=save, **rest)
            raise Stop

        monkeypatch.setattr("flic.training.train", note)
        with pytest.raises(Stop):
            run("train", *options)
        return seen

    return ask


class TestPublishedSpellings:
    """Options as the published README and CompressAI's train.py write them."""

    def test_every_spelling_means_ours(self, asked, data, tmp_path):
        theirs = asked(
            "--dataset", data, "-e", 3, "-lr", 2e-4, "-n", 5, "--patch-size", 192, 192,
            "--clip_max_norm", 0.5, "--lambda", 0.0483, "--save", "--save_path", tmp_path / "run",
        )  # fmt: skip
        ours = asked(
            "--data", data, "--epochs", 3, "--learning-rate", 2e-4, "--workers", 5, "--crop", 192,
            "--clip", 0.5, "--lambda", 0.0483, "--save", tmp_path / "run",
        )  # fmt: skip
        assert theirs == ours and ours["save"] == tmp_path / "run"
        assert ours["recipe"].clip == 0.5 and ours["options"].workers == 5
        assert asked("-d", data, "--save_path", "x", "-e", 1, "--num-workers", 5, "--save")
        for wrong, match in (
            (("--patch-size", 192, 256), "crops are square"),
            (("--patch-size", 192, 192, "--crop", 192), "give one of the two"),
        ):
            fails("train", "-d", data, "--save", "x", "-e", 1, *wrong, match=match)
        missing = run("train", "-d", data, "-e", 1, "--save", code=2)  # a flag without a folder
        assert "--save_path" in missing.stderr

    def test_the_published_command(self, data, start, tmp_path):
        command = ("-d", data, "--lambda", 0.0483, "--epochs", 1, "--save_path", tmp_path / "run",
                   "--save", "--checkpoint", start)  # fmt: skip
        if not torch.cuda.is_available():
            fails("train", *command, "--cuda", match="cannot use device 'cuda'")
        small = ("--patch-size", 128, 128, "--batch-size", 2)
        run("train", *command, *small)
        model = loading.load(tmp_path / "run" / "model.safetensors")
        assert model.metadata["lambda"] == "0.0483"

    def test_a_card_that_is_named_stays(self, data, tmp_path):
        if torch.cuda.is_available():
            pytest.skip("the error names the device")
        command = ("-d", data, "--steps", 1, "--save", tmp_path / "run", "--cuda")
        fails("train", *command, "--device", "cuda:1", match="cannot use device 'cuda:1'")


class TestPublishedRecipe:
    def test_command(self, asked, data):
        where = ("-d", data, "--save", "x", "--recipe", "published")
        what = asked(*where)["recipe"]
        assert {name: getattr(what, name) for name in PUBLISHED} == PUBLISHED
        assert (what.lmbda, what.epochs, what.plateau_every, what.ema) == (0.01, 100, 5000, 0)
        assert (what.batch, what.crop, what.lr, what.aux_lr) == (16, 256, 1e-4, 1e-3)
        assert (what.patience, what.factor, what.clip) == (16, 0.3, 1.0)
        changed = asked(*where, "-q", 6, "-e", 7, "--ema", 0.9, "--validate-every", 9)["recipe"]
        assert (changed.lmbda, changed.epochs) == (0.0483, 7)
        assert (changed.ema, changed.plateau_every) == (0.9, 9)
        own = asked("-d", data, "--save", "x", "-e", 1)["recipe"]
        assert own == Recipe(epochs=1, lmbda=0.0130)
        fails("train", *where, "--steps", 1, match="goes by epochs")
        fails("train", "-d", data, "--save", "x", "--recipe", "secret", match="flic, published")

    def test_first_weights_are_exactly_0_and_1(self):
        state = Trainer(recipe(plain_start=True)).model.state_dict()
        tables = [v for n, v in state.items() if n.endswith("relative_position_bias_table")]
        weights = [v for n, v in state.items() if n.endswith("complex_weight")]
        assert len(tables) == 4 * len(weights) == 4 * 18
        assert all(bool((table == 0).all()) for table in tables)
        assert all(torch.equal(w, torch.tensor([1.0, 0.0]).expand_as(w)) for w in weights)
        for name, value in Trainer(recipe()).model.state_dict().items():
            if not name.endswith(("relative_position_bias_table", "complex_weight")):
                assert torch.equal(value, state[name]), name

    def test_validates_and_steps_the_plateau_every_so_many_steps(self, data, tmp_path):
        """Two steps an epoch, three a plateau: at 3, and at 4 as the last, which moves no rate."""
        values = {"ema": 0.0, "published_validation": True, "plateau_every": 3}
        what = recipe(batch=1, epochs=2, **values)
        train(what, data, tmp_path / "run", options=Options(log_every=1, workers=0, hold_out=1))
        assert [row["step"] for row in rows(tmp_path / "run" / "validation.csv")] == ["3", "4"]
        last = torch.load(tmp_path / "run" / "last.pth.tar", weights_only=True)
        assert last["schedulers"][0]["last_epoch"] == 1
        for name, value in last["state_dict"].items():  # raw weights
            assert torch.equal(value, last["averaged"][name]), name

    def test_validates_on_centre_crops_without_rounding(self, tmp_path):
        folder = write_pictures(tmp_path / "data", 2, width=213, height=200)
        how = recipe(published_validation=True, crop=192)
        model = Trainer(how).averaged
        files = scan(folder, 192, print)
        scores = validate(model, Pictures(files, 0, print), how, World())
        expected = []
        for file in files:
            crop = np.asarray(Image.open(file.path))[4:196, 10:202]  # (213 - 192) / 2, to even
            x = torch.from_numpy(crop / np.float32(255)).permute(2, 0, 1)[None]
            with torch.no_grad():
                out = model(x)
            x_hat = out["x_hat"].clamp(0, 1)
            mse = ((x_hat - x).double() ** 2).mean().item()
            rounded = (x_hat * 255).round().to(torch.uint8)[0].permute(1, 2, 0).numpy()
            assert metrics.psnr(crop, rounded) != pytest.approx(-10 * np.log10(mse), abs=1e-6)
            bits = -sum(p.log2().sum().item() for p in out["likelihoods"].values())
            similarity = ms_ssim(x_hat, x, data_range=1.0).item()
            expected.append((-10 * np.log10(mse), similarity, bits / 192**2))
        found = [scores[name] for name in ("psnr", "ms_ssim", "bpp_estimated")]
        assert found == pytest.approx(np.mean(expected, axis=0), rel=1e-5)

    def test_a_run_of_an_older_version_continues(self, data, tmp_path):
        """Its recipe lacks the fields that came later; they have their defaults."""
        folder = tmp_path / "run"
        train(recipe(steps=1), data, folder, options=QUICK)
        saved = torch.load(folder / "last.pth.tar", weights_only=True)
        for name in ("plateau_every", "published_validation", "plain_start"):
            del saved["recipe"][name]
        torch.save(saved, folder / "last.pth.tar")
        train(recipe(steps=2), data, folder, options=QUICK)
        with pytest.raises(ValueError, match="another plain_start: plain_start=False"):
            train(recipe(steps=3, plain_start=True), data, folder, options=QUICK)
