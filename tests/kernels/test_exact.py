"""The exact engine: right values, and the same bits whichever way they are computed."""

import copy
import ctypes
import ctypes.util
import os
import platform
import zlib
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from exact_models import CONFIGS, bits, engines, latents, model, run, slices
from golden_model import TOLERANCE, base_model, golden, small_model

from flic_kernels import native, rans
from flic_kernels.exact import ExactEngine

ACCURACY = 1e-5  # against float64, relative to the largest
CODE_LENGTH = 1e-4  # against float64, relative


@pytest.fixture(scope="module")
def base():
    return base_model()


def assert_near(value, expected, tolerance):
    expected = torch.as_tensor(expected).double()
    error = (value.double() - expected).abs().max() / expected.abs().max()
    assert error <= tolerance, f"error {error:.2e} of the largest value"


@pytest.mark.parametrize("isa", [isa for isa in native.available_isas() if isa != "scalar"])
def test_tca_gives_the_golden_values(base, isa):
    hyper = np.random.RandomState(700).standard_normal((640, 8, 16)).astype(np.float32)
    y = np.round(3 * np.random.RandomState(701).standard_normal((320, 8, 16)))
    engine = ExactEngine(base.state_dict(), isa=isa, threads=2)
    hyper, y = torch.from_numpy(hyper), torch.from_numpy(y.astype(np.float32))
    slices = list(engine.slices_of(hyper[:320], hyper[320:], y))
    for name, parts in zip(("means", "scales", "lrp"), zip(*slices, strict=True), strict=True):
        assert_near(torch.cat(parts), golden()[f"tca/{name}"][0], TOLERANCE)


@pytest.mark.parametrize("name", ["full0", "full1"])
def test_hyper_and_tca_give_the_golden_values(base, name):
    medians = torch.from_numpy(golden()["entropy_bottleneck/quantiles"][:, 0, 1])[
        None, :, None, None
    ]
    z_hat = torch.round(torch.from_numpy(golden()[f"{name}/z"]) - medians) + medians
    engine = ExactEngine(base.state_dict(), threads=2)
    means, scales = engine.hyper(z_hat)
    assert_near(means, golden()[f"{name}/means_hyper"], TOLERANCE)
    assert_near(scales, golden()[f"{name}/scales_hyper"], TOLERANCE)
    y = torch.round(torch.from_numpy(golden()[f"{name}/y"]))
    for picture in range(len(y)):
        slices = zip(*engine.slices_of(means[picture], scales[picture], y[picture]), strict=True)
        tca_means, tca_scales, _ = map(torch.cat, slices)
        assert_near(tca_means, golden()[f"{name}/means"][picture], TOLERANCE)
        assert_near(tca_scales, golden()[f"{name}/scales"][picture], TOLERANCE)


@pytest.mark.parametrize("config", CONFIGS)
def test_accuracy_against_float64(config):
    net = model(config)
    engine = ExactEngine(net.state_dict(), threads=2)
    z, y = latents(net.config)
    means, scales = engine.hyper(z)
    slices = list(engine.slices_of(means[0], scales[0], y[0]))
    net = net.double()
    assert_near(means, net.h_mean_s(z.double()).detach(), ACCURACY)
    assert_near(scales, net.h_scale_s(z.double()).detach(), ACCURACY)
    expected = net.tca(torch.cat((means, scales), 1).double(), y.double())
    for parts, values in zip(zip(*slices, strict=True), expected, strict=True):
        assert_near(torch.cat(parts), values[0].detach(), ACCURACY)


@torch.no_grad()
def draw(net):
    """z_hat and y of a 128x128 picture from the model's own distribution, its means and scales."""
    generator = torch.Generator().manual_seed(11)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    z_hat = torch.round(2 * normal(1, net.config.hyper, 2, 2)) + net.z_medians()
    state, previous, slices = net.tca.begin(net.hyper_features(z_hat)), None, []
    for i in range(net.config.slices):
        means, scales, _ = net.tca.next_slice(state, i, previous)
        previous = torch.round(means + scales.clamp(min=0.01) * normal(*means.shape))
        slices.append((previous, means, scales))
    return z_hat, *(torch.cat(parts, 1) for parts in zip(*slices, strict=True))


@pytest.mark.parametrize("model_of", [small_model, base_model])
def test_code_length_is_that_of_float64(model_of):
    net = model_of()
    double = copy.deepcopy(net).double()
    z_hat, y, means, scales = draw(double)
    engine = ExactEngine(net.state_dict(), threads=1)
    hyper = engine.hyper(z_hat.float())
    slices = zip(*engine.slices_of(hyper[0][0], hyper[1][0], y[0].float()), strict=True)
    exact_means, exact_scales, _ = (torch.cat(parts)[None].double() for parts in slices)

    def bits(means, scales):
        return -double.gaussian_conditional(y, means, scales).log2().sum().item()

    expected = bits(means, scales)
    assert y.numel() < expected < 5 * y.numel()
    assert abs(bits(exact_means, exact_scales) / expected - 1) < CODE_LENGTH
    assert abs(bits(exact_means, 1.05 * exact_scales) / expected - 1) > CODE_LENGTH  # it can fail


@pytest.mark.parametrize("config", CONFIGS)
def test_same_bits_for_every_instruction_set_and_thread_count(config):
    net = model(config)
    z, y = latents(net.config, 8, 16)
    results = [(e.isa, e.threads, bits(run(e, z, y))) for e in engines(net.state_dict())]
    assert len(results) == 3 * len(native.available_isas())
    for isa, threads, result in results[1:]:
        for name, value in result.items():
            assert value == results[0][2][name], f"{name} differs: {isa}, {threads} threads"


def test_same_bits_for_the_base_model(base):
    z, y = latents(base.config, 8, 8)
    vector = [isa for isa in native.available_isas() if isa != "scalar"]
    results = [
        bits(run(ExactEngine(base.state_dict(), isa=isa, threads=2), z, y)) for isa in vector
    ]
    assert all(result == results[0] for result in results)


def test_same_bits_alone_and_in_a_batch():
    net = model("odd")
    z, y = latents(net.config, 8, 16, batch=3)
    engine = ExactEngine(net.state_dict(), threads=2)
    together = engine.hyper(z)
    for i in range(3):
        alone = engine.hyper(z[i : i + 1])
        assert all(torch.equal(a[0], b[i]) for a, b in zip(alone, together, strict=True))
    # three pictures whose slices take turns
    pictures = [engine.begin(together[0][i], together[1][i]) for i in range(3)]
    turns = [[] for _ in pictures]
    previous = [None] * 3
    for s in range(engine.slices):
        for i, picture in enumerate(pictures):
            turns[i].append(picture.next_slice(previous[i]))
            previous[i] = y[i].split(engine.slice_channels)[s]
    for i in range(3):
        alone = engine.slices_of(together[0][i], together[1][i], y[i])
        for ours, theirs in zip(turns[i], alone, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_a_slice_depends_on_earlier_ones_only():
    net = model("odd")
    z, y = latents(net.config)
    other = y.clone()
    other[:, net.config.slice_channels :] += 1  # from slice 1 on
    engine = ExactEngine(net.state_dict(), threads=2)
    first, second = bits(run(engine, z, y)), bits(run(engine, z, other))
    for name in first:
        assert (first[name] == second[name]) == (not name.endswith(".2")), name


def test_integer_latents_give_the_same():
    net = model("narrow")
    z, y = latents(net.config)
    engine = ExactEngine(net.state_dict(), threads=1)
    assert bits(run(engine, z, y)) == bits(run(engine, z.int(), y.int()))


# Version 1 of the arithmetic, frozen: CRC-32 of every output for seeded weights and latents.
FROZEN = {"odd": 1685848893, "narrow": 2338733934, "many_heads": 2566655052}


@pytest.mark.parametrize("config", CONFIGS)
def test_the_arithmetic_is_frozen(config):
    net = model(config)
    result = bits(run(ExactEngine(net.state_dict(), threads=2), *latents(net.config)))
    assert zlib.crc32(b"".join(result[name] for name in sorted(result))) == FROZEN[config]


@contextmanager
def polluted():
    """Flush-to-zero and rounding upwards, as other libraries may leave a thread."""
    upward = 0x400000 if platform.machine() == "aarch64" else 0x800
    libm = ctypes.CDLL(ctypes.util.find_library("m"))
    flushes = torch.set_flush_denormal(True)
    libm.fesetround(upward)
    try:
        yield flushes
    finally:
        libm.fesetround(0)
        torch.set_flush_denormal(False)


def subnormal_model():
    """Weights for which several stages hold subnormal numbers that flushing would change."""
    net = model("odd")
    state = net.state_dict()
    for name in (
        "h_mean_s.3.0",
        "h_scale_s.3.0",
        "h_mean_s.1.trans_block.proj",
        "h_scale_s.2.conv1_2",
        "tca.hyper_trans",
        "tca.TCA.layers.1.attn.proj",
        "tca.entropy_parameters_net.4",
    ):
        state[f"{name}.weight"] *= 1e-39
        state[f"{name}.bias"] *= 0
    return net.config, state


def test_callers_with_another_float_environment():
    config, state = subnormal_model()
    z, y = latents(config, 8, 16)
    clean = run(ExactEngine(state, threads=1), z, y)
    for name in ("means_hyper", "scales_hyper", "means.0", "lrp.2"):
        subnormal = (clean[name] != 0) & (clean[name].abs() < torch.finfo(torch.float32).tiny)
        assert subnormal.any(), f"no subnormal data in {name}"
    clean = bits(clean)
    with polluted() as flushes:
        results = [bits(run(engine, z, y)) for engine in engines(state, threads=(1, 2))]
        # the caller's own mode is still there
        third = (torch.tensor([1.0]) / 3).item()
        product = (torch.tensor([1e-38]) * 0.01).item()
    assert third > 1 / 3
    assert product == 0 or not flushes
    assert all(result == clean for result in results)


@pytest.mark.parametrize("isa", native.available_isas())
def test_table_indexes_in_another_float_environment(isa):
    rng = np.random.default_rng(2)
    means = torch.from_numpy(rng.normal(0, 20, 5000).astype(np.float32))
    means[::7] *= 1e-40  # subnormal
    scales = torch.from_numpy(np.exp(rng.normal(0, 2, 5000)).astype(np.float32))
    tables = rans.gaussian_tables()
    with native.use_isa(isa):
        expected = rans.gaussian_indexes(means, scales, tables)
        with polluted():
            result = rans.gaussian_indexes(means, scales, tables)
    assert all(torch.equal(a, b) for a, b in zip(result, expected, strict=True))


def test_open_is_hyper_and_begin():
    net = model("odd")
    z, y = latents(net.config, 8, 16)
    for engine in engines(net.state_dict(), threads=(2,)):
        opened = engine.open(z[0])
        assert opened.size == (8, 16)
        begun = engine.begin(*(features[0] for features in engine.hyper(z)))
        assert bits(slices(engine, opened, y)) == bits(slices(engine, begun, y))
    with pytest.raises(ValueError, match=r"z_hat must be \[\d+, h, w\]"):
        engine.open(z)
    with pytest.raises(ValueError, match="NaN"):
        engine.open(torch.full_like(z[0], float("nan")))


def test_t_ca_costs_one_pass():
    net = model("odd")
    c = net.config
    height, width = 16, 24
    z, y = latents(c, height, width)
    engine = ExactEngine(net.state_dict(), threads=2)
    picture = engine.begin(*(part[0] for part in engine.hyper(z)))
    previous = None
    for current in y[0].split(engine.slice_channels):
        picture.next_slice(previous)
        previous = current
    # Every weight is used once a pixel, keys and values once a causal pair of tokens.
    weights = sum(
        p.numel()
        for name, p in net.tca.named_parameters()
        if p.ndim > 1 and "cpe" not in name and "start_token" not in name.split(".")[1:2]
    )
    tokens = engine.inner // 16
    pairs = tokens**2 * c.slices * (c.slices + 1) // 2
    attention = c.depth * pairs * 16 * 2  # products with keys and with values, for 16 heads
    assert picture.multiply_adds() == height * width * (weights + attention)


def test_the_fingerprint_follows_the_weights_in_use():
    net = model("narrow")
    state = net.state_dict()
    prints = {e.fingerprint for e in engines(state, threads=(1, 2))}
    assert len(prints) == 1
    state["tca.TCA.start_token"] += 1  # which nothing uses
    state["g_a.0.conv1.weight"] += 1
    assert ExactEngine(state, threads=1).fingerprint in prints
    state["h_scale_s.2.trans_block.fm.complex_weight"][0, 0, 0, 0] += 1e-3
    assert ExactEngine(state, threads=1).fingerprint not in prints


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_can_use_the_engine():
    net = model("narrow")
    z, y = latents(net.config, 8, 8)
    engine = ExactEngine(net.state_dict(), threads=2)
    expected = bits(run(engine, z, y))
    child = os.fork()
    if child == 0:
        os._exit(0 if bits(run(engine, z, y)) == expected else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
