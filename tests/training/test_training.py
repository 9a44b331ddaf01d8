"""Training: killed runs resume exactly, bad steps change nothing, wrong use is refused."""

import signal
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from cli_tools import fails, program, run
from training_runs import FAST_RUN, MINI, QUICK, batch_of, crops_of, recipe, rows, write_pictures

from flic.errors import FlicError
from flic.model import checkpoint, loading
from flic.training import LAMBDAS, Options, Recipe, flat, published_lambda, run_folder, train
from flic.training.loss import rate_distortion
from flic.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A checkpoint file of the tiny configuration."""
    path = tmp_path_factory.mktemp("start") / "start.safetensors"
    checkpoint.save(Trainer(recipe(seed=5)).model, path)
    return path


def assert_equal_states(ours, theirs):
    states = [torch.load(p / "last.pth.tar", weights_only=True) for p in (ours, theirs)]
    for part in ("state_dict", "averaged"):
        for name, value in states[0][part].items():
            assert torch.equal(value, states[1][part][name]), name


@pytest.mark.parametrize(
    "length", [{"steps": 4}, {"epochs": 2, "patience": 0, "factor": 0.5}, {"steps": 4} | FAST_RUN]
)
def test_interrupted_run_equals_an_unbroken_one(data, tmp_path, monkeypatch, length):
    """Stopped in step 4, after a checkpoint at step 2 and a row of step 3."""
    how = Options(every=2, log_every=1, workers=2, hold_out=1, validate_every=3)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    what = recipe(batch=1, by_area=True, flip=True, **length)
    train(what, data, whole, options=how)

    step = Trainer.train_step
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_step", lambda t, x: _stop() if t.step == 3 else step(t, x))
        with pytest.raises(KeyboardInterrupt):
            train(what, data, broken, options=how)
    with (broken / "log.csv").open("a") as file:
        file.write("4,1,0.2")  # a row written by half
    train(what, data, broken, options=how)
    for log in ("log.csv", "validation.csv"):
        assert rows(whole / log) == rows(broken / log)
    steps = [int(row["step"]) for row in rows(whole / "log.csv")]
    assert steps == list(range(1, 5))
    ends = [torch.load(p / "last.pth.tar", weights_only=True) for p in (whole, broken)]
    for part in ("state_dict", "averaged"):
        for name, value in ends[0][part].items():
            assert torch.equal(value, ends[1][part][name]), name
    assert list(tmp_path.rglob("*.part")) == []


def _stop():
    raise KeyboardInterrupt


def test_killed_program_resumes_to_the_last_digit(data, start, tmp_path):
    options = ["-d", data, "--checkpoint", start, "--crop", 128, "--batch-size", 1, "--steps", 8,
               "--threads", 1, "--log-every", 1, "--hold-out", 0, "--lambda", 0.01]  # fmt: skip
    killed = tmp_path / "killed"
    process = program("train", *options, "--save", killed, "--every", 2)
    deadline = time.monotonic() + 60
    while not (killed / "last.pth.tar").exists():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert len(rows(killed / "log.csv")) < 8
    run("train", *options, "--save", killed)
    run("train", *options, "--save", tmp_path / "whole")
    assert rows(killed / "log.csv") == rows(tmp_path / "whole" / "log.csv")


def test_a_run_of_an_older_version_goes_on(data, tmp_path, monkeypatch):
    """Its Adam had a state for each parameter, where ours has one for all small ones."""
    monkeypatch.setattr(flat, "_SMALL", 500)  # the model's parameters are of both kinds
    what, how = recipe(steps=3), Options(every=1, workers=0, hold_out=0)
    whole, older = tmp_path / "whole", tmp_path / "older"
    train(what, data, whole, options=how)
    train(replace(what, steps=2), data, older, options=how)
    state = torch.load(older / "last.pth.tar", weights_only=True)
    (optimizer,) = state["optimizers"]
    trainer = Trainer(what)
    pieces = trainer.optimizers[0].param_groups[0]["params"]
    assert len(optimizer["state"]) == len(pieces) > 5
    each = []
    for p in trainer.parameters:
        starts = [(p.data_ptr() - piece.data_ptr()) // p.element_size() for piece in pieces]
        (found,) = (i for i, at in enumerate(starts) if 0 <= at < pieces[i].numel())
        saved, start = optimizer["state"][found], starts[found]
        moments = {n: saved[n].flatten()[start:][: p.numel()] for n in ("exp_avg", "exp_avg_sq")}
        each.append({n: m.reshape(p.shape) for n, m in moments.items()} | {"step": saved["step"]})
    optimizer["param_groups"][0]["params"] = list(range(len(each)))
    optimizer["state"] = dict(enumerate(each))
    torch.save(state, older / "last.pth.tar")
    train(what, data, older, options=how)
    assert_equal_states(whole, older)


@pytest.mark.parametrize(
    ("number", "told"), [(signal.SIGINT, "; Ctrl-C again stops"), (signal.SIGTERM, "")]
)
def test_a_stopped_program_keeps_every_step(data, start, tmp_path, number, told):
    """Checkpoints are far apart: what is there is that of the step in which the signal came."""
    options = ["-d", data, "--checkpoint", start, "--crop", 128, "--batch-size", 1, "--steps", 500,
               "--threads", 1, "--log-every", 1, "--hold-out", 0, "--every", 500]  # fmt: skip
    process = program("train", *options, "--save", tmp_path)
    log, deadline = tmp_path / "log.csv", time.monotonic() + 60
    while not log.exists() or not rows(log):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.01)
    process.send_signal(number)
    out, errors = process.communicate()
    assert process.returncode == 128 + number
    assert f"flic: stopping after this step{told}\n" in errors.decode()
    step = int(rows(log)[-1]["step"])
    assert 1 <= step < 500
    assert torch.load(tmp_path / "last.pth.tar", weights_only=True)["step"] == step
    assert f"{step} steps so far, of 500 steps" in out.decode()


def test_training_learns(data):
    trainer = Trainer(recipe(steps=14, batch=1, lr=4e-3))
    crops = crops_of(data, trainer.recipe)
    values = [float(trainer.train_step(batch_of(trainer, crops))["loss"]) for _ in range(14)]
    assert np.mean(values[-4:]) < 0.8 * np.mean(values[:4])
    assert trainer.skipped == 0
    assert trainer.model.tca.TCA.start_token.grad is None


def test_a_step_that_is_not_finite_changes_nothing(data):
    trainer = Trainer(recipe())
    x = batch_of(trainer, crops_of(data, trainer.recipe))
    trainer.train_step(x)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    average = [value.clone() for value in trainer.averaged.parameters()]
    assert trainer.train_step(torch.full_like(x, torch.nan)) is None
    assert (trainer.skipped, trainer.skipped_in_a_row, trainer.step) == (1, 1, 2)
    for name, value in trainer.model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(map(torch.equal, average, trainer.averaged.parameters()))
    assert trainer.train_step(x) is not None
    assert (trainer.skipped, trainer.skipped_in_a_row) == (1, 0)


def test_a_run_that_diverges_gives_up(data, tmp_path, monkeypatch):
    monkeypatch.setattr("flic.training.loop._PATIENCE", 3)
    monkeypatch.setattr(Trainer, "train_step", _diverge)
    with pytest.raises(FloatingPointError, match="3 steps"):
        train(recipe(), data, tmp_path / "run", options=QUICK)


def _diverge(trainer, x):
    trainer.step += 1
    trainer.skipped_in_a_row += 1


def test_a_folder_is_one_runs_alone(data, tmp_path):
    with run_folder.held(tmp_path), pytest.raises(FlicError, match="another training runs"):
        train(recipe(steps=1), data, tmp_path, options=QUICK)
    assert not any(tmp_path.iterdir())
    train(recipe(steps=1), data, tmp_path, options=QUICK)


def test_another_recipe_is_refused(data, tmp_path):
    train(recipe(steps=1), data, tmp_path / "run", options=QUICK)
    with pytest.raises(ValueError, match="another lmbda: lmbda=0.013"):
        train(recipe(steps=1, lmbda=0.05), data, tmp_path / "run", options=QUICK)
    other = write_pictures(tmp_path / "other", 1)
    with pytest.raises(ValueError, match="other pictures"):
        train(recipe(steps=1), other, tmp_path / "run", options=QUICK)
    train(recipe(steps=2), data, tmp_path / "run", options=QUICK)


def test_bfloat16_leaves_what_feeds_the_tables_alone(data):
    trainers = [Trainer(recipe(batch=1, dtype=dtype)) for dtype in ("float32", "bfloat16")]
    seen, gradients, losses = {}, [], []
    model = trainers[1].model
    for name in ("g_a", "h_a", "tca", "g_s"):
        note = lambda _, inputs, out, name=name: seen.update({name: (inputs[0].dtype, out)})  # noqa: E731
        getattr(model, name).register_forward_hook(note)
    for trainer in trainers:
        x = batch_of(trainer, crops_of(data, trainer.recipe))
        loss = trainer.forward(x)["loss"]
        loss.backward()
        losses.append(loss.item())
        gradients.append(torch.cat([p.grad.flatten() for p in trainer.parameters]))
    assert seen["g_a"][1].dtype == seen["g_s"][1].dtype == torch.bfloat16
    assert seen["h_a"][0] == seen["h_a"][1].dtype == seen["tca"][0] == torch.float32
    assert all(part.dtype == torch.float32 for part in (*seen["tca"][1], *model.parameters()))
    assert losses[0] != losses[1] == pytest.approx(losses[0], rel=1e-2)
    assert torch.cosine_similarity(*gradients, dim=0) > 0.999


def test_tensorboard(data, tmp_path, monkeypatch):
    event_accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    )
    how = Options(every=1, log_every=1, workers=0, hold_out=1, tensorboard=True)
    for steps in (1, 2):  # the second continues the first
        train(recipe(steps=steps, batch=1), data, tmp_path / "run", options=how)
    events = event_accumulator.EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    for name, log in (("training", "log.csv"), ("validation", "validation.csv")):
        values = [event.value for event in events.Scalars(f"{name}/loss")]
        expected = [float(row["loss"]) for row in rows(tmp_path / "run" / log)]
        assert values == pytest.approx(expected) and len(values) == 2
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ValueError, match="TensorBoard is not installed"):
        train(recipe(), data, tmp_path / "none", options=how)
    assert not (tmp_path / "none").exists()


def test_rate_distortion():
    x = torch.zeros(2, 3, 4, 4)
    likelihoods = {"y": torch.full((2, 8), 0.5), "z": torch.full((2, 2), 0.25)}
    terms = rate_distortion({"x_hat": x + 0.1, "likelihoods": likelihoods}, x, lmbda=2.0)
    assert float(terms["bpp"]) == pytest.approx((16 + 8) / 32)
    assert float(terms["mse"]) == pytest.approx(0.01)
    assert float(terms["loss"]) == pytest.approx(2.0 * 65025 * 0.01 + 0.75)


def test_a_balanced_loss_has_the_same_value_and_other_gradients():
    torch.manual_seed(0)
    x, noise = (
        torch.zeros(2, 3, 4, 4),
        torch.rand(2, 3, 4, 4) * torch.tensor([0.5, 0.05])[:, None, None, None],
    )
    likelihoods = {"y": torch.full((2, 8), 0.5)}

    def loss_and_gradient(pictures, balance):
        wrong = noise[pictures].clone().requires_grad_()
        out = {"x_hat": x[pictures] + wrong, "likelihoods": {"y": likelihoods["y"][pictures]}}
        loss = rate_distortion(out, x[pictures], 0.01, balance=balance)["loss"]
        loss.backward()
        return loss.item(), wrong.grad

    both, alone = slice(0, 2), [loss_and_gradient(slice(i, i + 1), 0.0) for i in range(2)]
    plain, balanced = loss_and_gradient(both, 0.0), loss_and_gradient(both, 0.7)
    assert alone[0][0] > 10 * alone[1][0]
    assert balanced[0] == pytest.approx(plain[0]) == pytest.approx((alone[0][0] + alone[1][0]) / 2)
    for i, (own, gradient) in enumerate(alone):
        assert torch.allclose(balanced[1][i], gradient[0] / 2 * own**-0.7, rtol=1e-4)


def test_ms_ssim_loss():
    torch.manual_seed(0)
    x = torch.rand(2, 3, 161, 170)
    out = {"x_hat": x, "likelihoods": {"y": torch.full((2, 8), 0.5)}}
    same = rate_distortion(out, x, lmbda=8.73, metric="ms-ssim")
    assert float(same["ms_ssim"]) == pytest.approx(1, abs=1e-5)
    out["x_hat"] = (x + 0.1 * torch.randn_like(x)).requires_grad_()
    terms = rate_distortion(out, x, lmbda=8.73, metric="ms-ssim")
    terms["loss"].backward()
    values = {name: term.item() for name, term in terms.items()}
    assert values["ms_ssim"] < 0.999
    assert values["loss"] == pytest.approx(8.73 * (1 - values["ms_ssim"]) + values["bpp"])
    assert bool(torch.isfinite(out["x_hat"].grad).all())


def test_published_lambdas():
    assert published_lambda("mse", 1) == 0.0018 and published_lambda("mse", 6) == 0.0483
    assert published_lambda("ms-ssim", 4) == 16.64
    assert all(len(values) == 6 for values in LAMBDAS.values())
    for wrong in (("mse", 7), ("mse", 0), ("vmaf", 1)):
        with pytest.raises(ValueError):
            published_lambda(*wrong)


@pytest.mark.parametrize(
    "wrong, match",
    [
        ({"config": "huge"}, "known: base"),
        ({"metric": "vmaf"}, "no metric"),
        ({"dtype": "float16"}, "float32 or bfloat16"),
        ({"epochs": 1, "steps": 1}, "one of the two"),
        ({"steps": None}, "one of the two"),
        ({"batch": 0}, "batch must be at least 1"),
        ({"lr": float("nan")}, "lr must be a number"),
        ({"ema": 1.0}, "ema must be"),
        ({"factor": 1.0}, "factor must lie"),
        ({"seed": -1}, "seed must be"),
        ({"plateau_every": 5}, "needs epochs"),
        ({"steps": None, "epochs": 1, "plateau_every": 0}, "plateau_every must be"),
        ({"metric": "ms-ssim", "crop": 160}, "at least 161"),
    ],
)
def test_impossible_recipes(wrong, match):
    with pytest.raises(ValueError, match=match):
        Recipe(**{"steps": 1, **wrong})


NAMES = ("recipe.json", "log.csv", "validation.csv", "model.safetensors", "best.safetensors")


@pytest.mark.parametrize("name", NAMES)
def test_files_of_others_are_kept(data, start, tmp_path, name):
    """In a folder without a run; a model that no run made is one of them."""
    folder = tmp_path / "run"
    folder.mkdir()
    mine = start.read_bytes() if name.endswith("safetensors") else b"{}\n"
    (folder / name).write_bytes(mine)
    options = ("train", "-d", data, "--save", folder, "--checkpoint", start, "--crop", 128,
               "--batch-size", 1, "--steps", 1, "--threads", 1, "--hold-out", 1)  # fmt: skip
    fails(*options, match=f"{name}: exists, and flic did not write it")
    assert [path.name for path in folder.iterdir()] == [name]
    assert (folder / name).read_bytes() == mine
    if name == NAMES[0]:
        run(*options, "--overwrite")
        assert loading.load(folder / "model.safetensors").metadata["steps"] == "1"


def test_a_run_that_ended_before_its_first_checkpoint_is_begun_again(data, tmp_path):
    how = replace(QUICK, hold_out=1, validate_every=1)
    train(recipe(steps=1), data, tmp_path, options=how)
    (tmp_path / "last.pth.tar").unlink()
    assert all((tmp_path / name).exists() for name in NAMES)
    train(recipe(steps=1), data, tmp_path, options=how)
    assert len(rows(tmp_path / "log.csv")) == 1


def test_command(data, start, tmp_path):
    weights = ("--checkpoint", start)
    options = (*weights, "--batch-size", 1, "--crop", 128, "--hold-out", 1, "--threads", 1)
    result = run("train", "-d", data, "--save", tmp_path / "run", *options, "--epochs", 1, "-q", 2)
    assert "model.safetensors: 1 epochs" in result.stdout
    model = loading.load(tmp_path / "run" / "model.safetensors")
    assert model.config == MINI
    assert model.metadata["lambda"] == "0.0035" and model.metadata["metric"] == "mse"
    assert model.metadata["start"] == checkpoint.fingerprint(loading.load(start))
    best = loading.load(tmp_path / "run" / "best.safetensors")
    assert checkpoint.fingerprint(best) == checkpoint.fingerprint(model)
    (scores,) = rows(tmp_path / "run" / "validation.csv")
    assert float(scores["bpp"]) > 0 and float(scores["loss"]) > float(scores["bpp_estimated"]) > 0
    # Another run continues this one; other values are refused.
    last = ("--checkpoint", tmp_path / "run" / "last.pth.tar", *options[2:])
    run("train", "-d", data, "--save", tmp_path / "on", *last, "--epochs", 2, "-q", 2)
    assert [row["step"] for row in rows(tmp_path / "on" / "log.csv")] == ["4"]
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "last.pth.tar").write_bytes(b"PK")
    steps, new = ("--steps", 1), tmp_path / "new"
    for match, *wrong in (
        ("no pictures", "-d", tmp_path / "on", "--save", new, *options, *steps),
        ("another lmbda", "-d", data, "--save", tmp_path / "run", *options, "--epochs", 1),
        ("unknown configuration", "-d", data, "--save", new, "--config", "huge", *steps),
        ("another configuration", "-d", data, "--save", new, *options, "--config", "tiny", *steps),
        ("cannot use device", "-d", data, "--save", new, "--device", "abacus", *steps),
        ("is damaged", "-d", data, "--save", damaged, *options, *steps),
        ("one of the two", "-d", data, "--save", new),
        ("one of the two", "-d", data, "--save", new, *steps, "--lambda", 1, "-q", 1),
        ("no model 'nothing'", "-d", data, "--save", new, *steps, "--checkpoint", "nothing"),
        ("at least 161", "-d", data, "--save", new, *options, *steps, "--metric", "ms-ssim"),
        ("needs validation", "-d", data, "--save", new, *options, "--epochs", 1, "--hold-out", 0),
    ):
        fails("train", *wrong, match=match)
    assert not new.exists()
