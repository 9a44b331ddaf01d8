"""The quantisation step: what chooses it, what it does, and that every back end agrees on it."""

import math
import warnings

import numpy as np
import pytest
import torch
from golden_model import portable_model, small_model
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import photograph

import flic
from flic.codec.codec import Codec
from flic.codec.rate import Rate, parse_ends, search, step_of
from flic.coding import entropy
from flic.format import container
from flic.format.step import STEPS, check_step, float32
from flic.format.tile_grid import Margins
from flic.pictures import metrics
from flic_kernels import native
from flic_kernels.exact import ExactEngine

pytestmark = pytest.mark.usefixtures("one_thread")


def test_at_most_one_thing_chooses_the_rate():
    with pytest.raises(flic.OptionError, match="quality and psnr each choose the rate"):
        Rate(quality=50, psnr=30)
    assert Rate().fixed({}) == 1 and Rate().target is None


@pytest.mark.parametrize(
    "wrong",
    [dict(quality=-1), dict(quality=100.5), dict(quality=math.nan), dict(step=0), dict(step=64.1)]
    + [dict(step=math.nan), dict(bpp=0), dict(size=-3), dict(psnr=math.inf), dict(bpp=math.nan)],
)
def test_values_that_nothing_can_have(wrong):
    with pytest.raises(flic.OptionError, match="must"):
        Rate(**wrong)


def test_a_quality_is_a_step_of_the_model():
    known = {"quality_steps": "4 0.25"}
    steps = [Rate(quality=q).fixed(known) for q in (0, 25, 50, 75, 100)]
    assert steps == [4, 2, 1, 0.5, 0.25]
    with pytest.raises(flic.OptionError, match="does not say what steps"):
        Rate(quality=50).fixed({})
    for damaged in ("", "4", "1 2 3", "0.25 4", "a b", "4 nan", "100 1"):
        with pytest.raises(flic.OptionError, match="make no sense"):
            Rate(quality=50).fixed({"quality_steps": damaged})


@pytest.mark.parametrize("name", ["quality", "step", "bpp", "size", "psnr"])
def test_values_that_are_no_numbers(name):
    with pytest.raises(flic.OptionError, match=f"{name} must be a number, not 'keep'"):
        Rate(**{name: "keep"})
    assert Rate(**{name: np.float32(20)}) == Rate(**{name: 20})


@given(st.floats(0, 100), st.floats(0, 100))
def test_a_higher_quality_never_has_a_greater_step(a, b):
    ends = parse_ends("5 0.2")
    low, high = sorted((a, b))
    assert step_of(high, ends) <= step_of(low, ends)


@given(st.floats(*STEPS))
def test_a_step_is_a_float32_within_its_bounds(step):
    kept = check_step(step)
    assert kept == float(np.float32(step)) == check_step(kept) and STEPS[0] <= kept <= STEPS[1]


@settings(max_examples=200)
@given(st.sampled_from(["bpp", "size", "psnr"]), st.floats(-3, 3), st.floats(0.3, 3))
def test_a_search_ends_near_the_target(name, at, power):
    """Of numbers that fall with the step in ways like a file's; few trials."""
    trials = []

    def measure(step):
        trials.append(step)
        number = 30 - 6 * power * math.log2(step) if name == "psnr" else 5000 * step**-power
        return (round(number) if name == "size" else number), step

    goal = measure(math.exp(at))[0]
    if goal <= 0 or (name == "size" and goal < 500):  # no file is as small; a byte is then a lot
        return
    trials.clear()
    step, number, outcome = search(Rate(**{name: goal}), measure)
    assert outcome == step and len(trials) <= 16
    if name == "psnr":
        assert abs(number - goal) < 0.02
    elif name == "bpp":
        assert abs(number / goal - 1) < 0.005
    else:
        assert number <= goal and (goal - number) / goal < max(0.005, 1.5 / goal)


def test_a_search_gives_the_nearest_where_nothing_reaches_the_target():
    for goal, step in ((1e9, STEPS[0]), (1e-3, STEPS[1])):
        rate = Rate(bpp=goal)
        found = search(rate, lambda step: (1 / step, None))
        assert found[0] == step and "nearest has" in rate.missed(found[1])
    assert Rate(size=100).missed(90) is None and Rate(size=100).missed(101)


@pytest.mark.parametrize("step", [0.5, 0.7, 1.0, 2.5, 8.0])
def test_latents_round_trip_on_every_back_end(step):
    step = float32(step)
    model, margins = portable_model(), Margins(64, 0, 64, 128)
    latents = model.analyze(
        torch.from_numpy(photograph(128, 128)).permute(2, 0, 1)[None] / 255, step
    )
    files = set()
    for isa in native.available_isas():
        with native.use_isa(isa):
            made = flic.coding.model_engine.build(model, isa=isa, threads=1)
            [coded] = entropy.code(model, latents, made, margins)
            size, files = (128, 128), files | {coded.stream}
            decoded, y_hat = entropy.decode(model, [coded.stream], size, made, margins, step)
        assert torch.equal(decoded.y, latents.y) and torch.equal(decoded.z, latents.z)
        assert decoded.step == step and torch.equal(y_hat[0], coded.y_hat)
        assert (y_hat - step * latents.y).abs().max() <= step / 2
    assert len(files) == 1
    if step != 1:
        with pytest.raises(flic.StreamMismatch):
            entropy.decode(model, [coded.stream], size, made, margins, 1.0)


def test_the_step_is_one_product_and_one_division():
    """What the engine gives is what it gives without a step for the products, divided."""
    model, step = small_model(), float32(1.7)
    engine = ExactEngine(model.state_dict(), threads=1)
    z_hat = torch.randn(model.config.hyper, 2, 2)
    size = (model.config.slice_channels, 8, 8)
    plain, stepped = engine.open(z_hat), engine.open(z_hat, step)
    previous = None
    for _ in range(model.config.slices):
        product = None if previous is None else previous.numpy() * np.float32(step)
        expected = plain.next_slice(None if product is None else torch.from_numpy(product))
        means, scales, lrp = stepped.next_slice(previous)
        for result, exact in ((means, expected[0]), (scales, expected[1])):
            assert np.array_equal(result.numpy(), exact.numpy() / np.float32(step))
        assert torch.equal(lrp, expected[2])
        previous = torch.randint(-9, 10, size).float()


def test_forward_estimates_what_coding_costs():
    """The likelihoods of a forward pass with steps are those that the coder's tables follow."""
    model = flic.load_model("tiny")
    x = torch.from_numpy(photograph(128, 128)).permute(2, 0, 1)[None] / 255
    steps = torch.tensor([0.5, 2.0])
    with torch.no_grad():
        out = model(x.expand(2, -1, -1, -1), steps=steps)
    for i, step in enumerate(steps.tolist()):
        bits = float(sum(-torch.log2(p[i]).sum() for p in out["likelihoods"].values()))
        [stream] = entropy.encode(model, model.analyze(x, step))
        assert abs(8 * len(stream) - bits) < 0.02 * bits + 8 * 40
        _, y_hat = entropy.decode(model, [stream], (128, 128), step=step)
        assert torch.allclose(
            model.synthesize(y_hat, (128, 128)), out["x_hat"][i].clamp(0, 1), atol=1e-3
        )


def test_compress_at_a_step():
    """Streams of a step open at it alone."""
    model, x = small_model(), torch.from_numpy(photograph(64, 64)).permute(2, 0, 1)[None] / 255
    coded = model.compress(x, step=0.5)
    assert coded["strings"] == [entropy.encode(model, model.analyze(x, 0.5))]
    _, y_hat = entropy.decode(model, coded["strings"][0], (64, 64), step=0.5)
    x_hat = model.decompress(**coded, step=0.5)["x_hat"]
    assert torch.equal(x_hat, model.synthesize(y_hat, (64, 64)))
    with pytest.raises(flic.StreamMismatch, match="step its step"):
        model.decompress(**coded)
    for call in (lambda: model.compress(x, step=0), lambda: model.decompress(**coded, step=65)):
        with pytest.raises(flic.OptionError, match="a step must lie between"):
            call()
    assert model.compress(x) == model.compress(x, step=1)


@pytest.fixture(scope="module")
def codec():
    return Codec(flic.load_model("tiny"))


def test_a_smaller_step_is_a_larger_and_better_file(codec):
    pixels = photograph(200, 150)
    files = [codec.encode(pixels, rate=Rate(step=step)) for step in (4, 1, 0.25)]
    assert [container.unpack(file).version for file in files] == [3, 1, 3]
    assert len(files[0]) < len(files[1]) < len(files[2])
    assert files[1] == codec.encode(pixels)
    quality = [metrics.psnr(codec.decode_picture(file).pixels, pixels) for file in files]
    assert len(set(quality)) == 3


@pytest.mark.parametrize("tile", ["none", 128])
def test_targets(codec, tile):
    pixels = photograph(300, 200)
    bpp = metrics.bits_per_pixel(len(codec.encode(pixels, tile=tile)), 300, 200) / 1.5
    file = flic.encode(pixels, codec.model, target_bpp=bpp, tile=tile)
    assert abs(metrics.bits_per_pixel(len(file), 300, 200) / bpp - 1) < 0.01
    file = flic.encode(pixels, codec.model, target_size=9000, tile=tile)
    assert 8900 < len(file) <= 9000
    assert codec.decode_picture(file).pixels.shape == pixels.shape


@pytest.mark.parametrize("tile", ["none", 128])
def test_a_target_in_db_is_of_the_picture_that_a_decoder_gives(codec, tile):
    picture = flic.pictures.images.read(photograph(300, 200))
    encoded = codec.encode_at(Rate(psnr=24.0), picture, tile=tile)
    assert encoded.reached == metrics.psnr(
        codec.decode_picture(encoded.data).pixels, picture.pixels
    )


def test_a_target_that_cannot_be_reached_is_said(codec):
    pixels = photograph(128, 128)
    with pytest.warns(RuntimeWarning, match="no step gives 5 bytes; the nearest has"):
        file = flic.encode(pixels, codec.model, target_size=5)
    assert container.unpack(file).step == STEPS[1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        flic.encode(pixels, codec.model, target_size=10**6)
