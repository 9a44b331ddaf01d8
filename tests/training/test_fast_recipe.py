"""The recipe for little compute: its optimiser, its first weights, its variable rates."""

import json

import pytest
import torch
from cli_tools import fails, run
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode
from training_runs import FAST_RUN, MINI, QUICK, batch_of, crops_of, recipe, rows

import flic
import flic_kernels
from flic.config import CONFIGS, Config
from flic.format import container
from flic.model import loading
from flic.model.network import FLIC
from flic.training import FAST, Options, Recipe, train
from flic.training.loss import rate_distortion
from flic.training.optimizers import (
    HEAD,
    Muon,
    RowAdam,
    Split,
    optimizers_for,
    orthogonalised,
    scale_head,
)
from flic.training.randomness import quantisation_steps
from flic.training.schedule import constant, linear
from flic.training.start import linear_codec, principal
from flic.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("shape", [(3, 12, 12), (2, 9, 40), (2, 40, 9), (1, 24, 30)])
def test_orthogonalised_matrices_keep_their_directions(shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    u, _, v = torch.linalg.svd(x, full_matrices=False)
    result = orthogonalised(x)
    inside = u.mT @ result @ v.mT  # diagonal in the same singular vectors
    values = inside.diagonal(dim1=1, dim2=2)
    assert (inside - torch.diag_embed(values)).abs().max() < 1e-3
    assert values.min() > 0.6 and values.max() < 1.25


def test_muon_steps_as_torchs_does():
    """Up to bfloat16, in which torch's iterates."""
    weights = [torch.nn.Parameter(torch.randn(16, 24)) for _ in range(2)]
    ours = Muon([{"params": [weights[0]]}], lr=0.1)
    theirs = torch.optim.Muon([weights[1]], lr=0.1, weight_decay=0.0)
    weights[1].data.copy_(weights[0].data)
    for seed in range(3):
        before = [weight.detach().clone() for weight in weights]
        gradient = torch.randn(16, 24, generator=torch.Generator().manual_seed(seed))
        for weight, optimizer in zip(weights, (ours, theirs), strict=True):
            weight.grad = gradient.clone()
            optimizer.step()
        steps = [weight.detach() - old for weight, old in zip(weights, before, strict=True)]
        assert (steps[0] - steps[1]).norm() < 0.05 * steps[1].norm()


@given(st.integers(1, 4), st.integers(1, 3), st.booleans(), st.sampled_from([(), (3, 3)]))
def test_a_split_is_undone(count, rows, interleaved, kernel):
    x = torch.randn(count * rows, 2, *kernel)
    split = Split(count, interleaved)
    apart = split.apart(x)
    assert apart.shape == (count, rows, x[0].numel())
    assert torch.equal(split.together(apart, x.shape), x)
    own = x[0::count] if interleaved else x[:rows]
    assert torch.equal(apart[0], own.flatten(1))


def test_every_parameter_has_one_optimiser():
    model = FLIC("small")
    parameters = [p for name, p in model.named_parameters() if not name.endswith(".quantiles")]
    muon, adam = optimizers_for(Recipe(steps=1, optimizer="muon"), model, parameters)
    members = [p for o in (muon, adam) for group in o.param_groups for p in group["params"]]
    assert len(members) == len(parameters) == len(set(map(id, members)))
    names = {id(p): name for name, p in model.named_parameters()}
    matrices = {names[id(p)] for group in muon.param_groups for p in group["params"]}
    assert "g_a.3.conv1.weight" in matrices and "tca.hyper_trans.weight" in matrices
    assert not any(HEAD in name or "gdn" in name or name.endswith("bias") for name in matrices)
    by_name = {names[id(p)]: group for group in muon.param_groups for p in group["params"]}
    assert by_name["g_a.1.trans_block.qkv.weight"]["count"] == 3
    assert by_name["g_s.3.upsample.0.weight"]["interleaved"]
    assert by_name["tca.TCA.layers.0.attn.proj.weight"]["count"] == 6


def test_rows_of_the_head_move_with_their_channels_deviation():
    weight, plain = (torch.nn.Parameter(torch.zeros(6, 4)) for _ in range(2))
    scaled = RowAdam([{"params": [weight], "rows": torch.ones(6)}], lr=0.1)
    adam = RowAdam([{"params": [plain]}], lr=0.1)
    scale_head([scaled], torch.tensor([2.0, 100.0]))
    for parameter, optimizer in ((weight, scaled), (plain, adam)):
        parameter.grad = torch.ones(6, 4)
        optimizer.step()
    assert torch.allclose(weight[:, 0] / plain[:, 0], torch.tensor([2.0, 2.0, 1.0, 5.0, 5.0, 1.0]))


def test_a_linear_codec_in_the_weights(data):
    """g_s after g_a is the projection on the principal directions of nested 2x2 blocks."""
    config = Config(widths=(12, 16, 16), heads=(4, 4, 4), latent=32, hyper=8, slices=2, depth=1)
    model, crops = FLIC(config).eval(), crops_of(data, recipe(batch=3))
    x = torch.from_numpy(crops.batch(0, range(3))).permute(0, 3, 1, 2).float() / 255
    linear_codec(model, x, step=0.5)
    features = x
    bases = []
    for count in (12, 16, 16, 32):
        patches = torch.nn.functional.pixel_unshuffle(features, 2).permute(0, 2, 3, 1)
        mean, basis, _ = principal(patches.flatten(0, 2), count)
        bases.append((mean, basis))
        features = ((patches - mean) @ basis).permute(0, 3, 1, 2)
    for mean, basis in reversed(bases):
        patches = features.permute(0, 2, 3, 1) @ basis.T + mean
        features = torch.nn.functional.pixel_shuffle(patches.permute(0, 3, 1, 2), 2)
    with torch.no_grad():
        y = model.g_a(x)
        out = model(x)
    ours, best = ((model.g_s(y) - x) ** 2).mean(), ((features - x) ** 2).mean()
    assert best < 1e-3 and ours < 1.2 * best + 1e-5
    scale = (y.std((0, 2, 3)).log() - (features.std() / 0.125).log())[:8]
    assert scale.isfinite().all() and 1 < y.std((0, 2, 3))[0] < 100
    assert all(p.isfinite().all() for p in out["likelihoods"].values())


def test_a_run_starts_as_the_seed_and_the_pictures_say(data):
    trainers = [Trainer(recipe(steps=4, **FAST_RUN)) for _ in range(2)]
    for trainer in trainers:
        trainer.begin(crops_of(data, trainer.recipe))
    states = [t.model.state_dict() for t in trainers]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    averaged = trainers[0].averaged.state_dict()
    assert all(torch.equal(states[0][name], averaged[name]) for name in averaged)
    rows = trainers[0].optimizers[1].param_groups[0]["rows"]
    assert rows.min() >= 0.15 and rows.max() <= 5 and len(rows) == 3 * MINI.latent


def test_the_entropy_model_learns_first(data):
    losses = []
    for steps in (0, 60):
        trainer = Trainer(recipe(steps=4, **FAST_RUN | {"entropy_first": steps}))
        crops = crops_of(data, trainer.recipe)
        trainer.begin(crops)
        losses.append(trainer.forward(batch_of(trainer, crops))["bpp"].item())
    assert losses[1] < 0.9 * losses[0]


def test_the_loss_follows_each_samples_step():
    torch.manual_seed(0)
    model = FLIC(MINI).eval()
    x = torch.rand(2, 3, 128, 128)
    steps = torch.tensor([0.5, 2.0])
    with torch.no_grad():
        out = model(x, steps=steps)
        terms = rate_distortion(out, x, 0.01, steps=steps)
        alone = [
            rate_distortion(model(x[i : i + 1], steps=steps[i : i + 1]), x[i : i + 1], 0.01 / d**2)
            for i, d in enumerate((0.5, 2.0))
        ]
    expected = (0.5 * alone[0]["loss"] + 2.0 * alone[1]["loss"]) / 2
    assert torch.allclose(terms["loss"], expected, rtol=1e-4)
    drawn = quantisation_steps(3, 7, range(200), (0.4, 2.5))
    assert min(drawn) >= 0.4 and max(drawn) <= 2.5 and 0.4 < sum(d < 1 for d in drawn) / 200 < 0.6
    assert drawn == quantisation_steps(3, 7, range(200), (0.4, 2.5))


def test_scales_are_bounded_in_training_alone():
    model = FLIC(MINI)
    model.gaussian_conditional.training_bound = 0.11
    y, zero = torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)
    likely = [model.train(mode).gaussian_conditional(y + 0.4, zero, zero) for mode in (True, False)]
    assert likely[0] < 0.9 and likely[1] > 0.999


def test_courses_of_the_rate():
    assert [constant(i, 2, 9) for i in (0, 1, 5)] == [0.5, 1, 1]
    assert linear(0, 1, 100) == linear(25, 1, 100) == 1 and linear(100, 1, 100) == 0
    assert linear(70, 1, 100) == pytest.approx(0.4)


def test_a_run_by_the_fast_recipe(data, tmp_path):
    train(recipe(**FAST_RUN), data, tmp_path / "run", options=Options(hold_out=1, workers=0))
    scores = rows(tmp_path / "run" / "validation.csv")
    assert [float(row["quant_step"]) for row in scores] == pytest.approx([0.4, 1.0, 2.5])
    bpp = [float(row["bpp"]) for row in scores]
    assert bpp[0] > bpp[1] > bpp[2]
    model = flic.load_model(tmp_path / "run" / "model.safetensors")
    assert model.metadata["quality_steps"] == "4 0.25"
    file = flic.encode(data / "0.png", model, quality=25)
    assert container.unpack(file).step == 2


def test_a_run_stops_after_the_minutes_given_and_goes_on(data, tmp_path):
    what = recipe(steps=3)
    for steps in (1, 2, 3):
        options = Options(every=100, log_every=1, workers=0, hold_out=0, minutes=0)
        train(what, data, tmp_path / "run", options=options)
        assert len(rows(tmp_path / "run" / "log.csv")) == steps
    train(what, data, tmp_path / "whole", options=QUICK)
    assert rows(tmp_path / "run" / "log.csv") == rows(tmp_path / "whole" / "log.csv")


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"optimizer": "sgd"}, "no optimizer 'sgd'"),
        ({"schedule": "step"}, "no schedule"),
        ({"variable": True, "metric": "ms-ssim", "crop": 256}, "for MSE"),
        ({"finest": 3.0}, "must rise"),
        ({"coarsest": 65.0}, "must rise"),
        ({"entropy_first": 5}, "only after a linear start"),
        ({"scale_bound": -1.0}, "scale_bound"),
        ({"balance": 1.5}, "balance"),
    ],
)
def test_impossible_recipes(wrong, match):
    with pytest.raises(ValueError, match=match):
        recipe(**wrong)


def test_the_command_says_how_far_the_minutes_went(data, tmp_path):
    mini = "widths=8,8,8 heads=4,4,4 latent=16 hyper=8 slices=2 ratio=2 depth=1"
    options = ("-d", data, "--crop", 128, "--batch-size", 1, "--hold-out", 0, "--config", mini)
    command = ("train", *options, "--steps", 9, "--minutes", 0, "--save", tmp_path / "run")
    for steps in (1, 2):
        assert run(*command).stdout.endswith(f": {steps} steps so far, of 9 steps\n")


def test_sizes_on_the_command_line(data, tmp_path):
    sizes = "widths=8,8,8 heads=4,4,4 latent=16 hyper=8 slices=2 ratio=2 depth=1"
    file = tmp_path / "sizes.json"
    file.write_text(json.dumps(MINI.to_dict()))
    options = ("-d", data, "--crop", 128, "--batch-size", 1, "--steps", 1, "--hold-out", 0)
    for i, config in enumerate((sizes, file)):
        run("train", *options, "--config", config, "--save", tmp_path / str(i))
        assert loading.load(tmp_path / str(i) / "model.safetensors").config == MINI
    for wrong, match in (
        ("widths=8,x heads=1", "invalid literal"),
        ("none", "unknown configuration"),
    ):
        fails("train", *options, "--config", wrong, "--save", tmp_path / "no", match=match)


def test_the_fast_recipe_on_the_command_line(data, tmp_path):
    mini = "widths=8,8,8 heads=4,4,4 latent=16 hyper=8 slices=2 ratio=2 depth=1"
    options = ("-d", data, "--steps", 1, "--hold-out", 0, "--config", mini)
    small = ("--batch-size", 1, "--crop", 128)
    run("train", "--recipe", "fast", *options, *small, "--save", tmp_path / "run")
    made = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert {**FAST, "config": MINI.to_dict(), "batch": 1, "crop": 128}.items() <= made.items()
    assert CONFIGS[FAST["config"]].latent == 192


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31))
def test_principal_directions_hold_the_energy(seed):
    rows = torch.randn(200, 6, generator=torch.Generator().manual_seed(seed))
    mean, basis, deviation = principal(rows, 6)
    assert torch.allclose(basis.T @ basis, torch.eye(6), atol=1e-4)
    assert torch.allclose(((rows - mean) @ basis).std(0), deviation, rtol=1e-3)
    assert (deviation.diff() <= 1e-6).all()


def test_small_decodes_with_few_operations():
    """g_s and T-CA together: at most 120 kFLOP a pixel (a multiply-add is two)."""
    model, count = FLIC("small").eval(), FlopCounterMode(display=False)
    latent = model.config.latent
    with torch.no_grad(), flic_kernels.use("reference"), count:
        model.g_s(torch.zeros(1, latent, 8, 8))
        model.tca(torch.zeros(1, 2 * latent, 8, 8), torch.zeros(1, latent, 8, 8))
    assert 60 < count.get_total_flops() / 128**2 / 1e3 < 75
