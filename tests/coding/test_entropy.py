"""The slice loop: equal to the one-shot network, one pass in total, lossless."""

import numpy as np
import pytest
import torch
import z_prior_reference as z_prior
from golden_model import SMALL, assert_golden, base_model, fill, golden, small_model
from torch.utils.flop_counter import FlopCounterMode

from flic import FLIC
from flic.coding import entropy
from flic.coding.entropy import Latents, Unrounded
from flic.coding.model_engine import engine_of
from flic_kernels import use


@torch.no_grad()
def slice_by_slice(model, hyper, y):
    state, previous, results = model.tca.begin(hyper), None, []
    size = model.config.slice_channels
    for i in range(model.config.slices):
        results.append(model.tca.next_slice(state, i, previous))
        previous = y[:, i * size : (i + 1) * size]
    return [torch.cat(parts, dim=1) for parts in zip(*results, strict=True)]


def test_slices_equal_the_one_shot_network():
    hyper = torch.from_numpy(
        np.random.RandomState(700).standard_normal((1, 640, 8, 16)).astype(np.float32)
    )
    y = np.round(3 * np.random.RandomState(701).standard_normal((1, 320, 8, 16)).astype(np.float32))
    results = slice_by_slice(base_model(), hyper, torch.from_numpy(y))
    for key, result in zip(("means", "scales", "lrp"), results, strict=True):
        assert_golden(result, golden()[f"tca/{key}"])


@torch.no_grad()
def test_slices_cost_one_pass():
    model = small_model()
    hyper = torch.randn(1, 2 * SMALL["latent"], 16, 8)
    y = torch.randn(1, SMALL["latent"], 16, 8)
    with use("reference"), FlopCounterMode(display=False) as whole:  # it sees PyTorch's operators
        model.tca(hyper, y)
    with use("reference"), FlopCounterMode(display=False) as sliced:
        slice_by_slice(model, hyper, y)
    assert sliced.get_total_flops() == whole.get_total_flops() > 1e6


@pytest.mark.parametrize("size", [(128, 128), (70, 300)])
def test_round_trip(size):
    model = small_model()
    x = torch.rand(2, 3, *size)
    latents = model.analyze(x)
    streams = entropy.encode(model, latents)
    decoded, y_hat = entropy.decode(model, streams, size)
    assert torch.equal(decoded.y, latents.y)
    assert torch.equal(decoded.z, latents.z)
    assert decoded.crc32(1) == latents.crc32(1) != latents.crc32(0)
    coded = model.compress(x)
    assert coded["strings"] == [streams]
    assert coded["shape"] == size
    out = model.decompress(**coded)["x_hat"]
    assert out.shape == x.shape
    assert torch.equal(out, model.synthesize(y_hat, size))
    assert 0 <= out.min() <= out.max() <= 1
    # The forward pass sees the same integers, so its reconstruction is the same picture.
    torch.testing.assert_close(out, model(x)["x_hat"].detach().clamp(0, 1), atol=1e-4, rtol=0)


def test_a_picture_is_coded_the_same_alone_and_in_a_batch():
    model = small_model()
    latents = model.analyze(torch.rand(3, 3, 128, 128))
    together = entropy.encode(model, latents)
    alone = [
        entropy.encode(model, Latents(y[None], z[None]))[0]
        for y, z in zip(latents.y, latents.z, strict=True)
    ]
    assert together == alone


def test_extreme_latents_round_trip():
    model = small_model()
    generator = torch.Generator().manual_seed(5)
    y = torch.randint(-(2**29), 2**29, (1, SMALL["latent"], 8, 8), generator=generator)
    z = torch.randint(-(2**20), 2**20, (1, SMALL["hyper"], 2, 2), generator=generator)
    latents = Latents(y.to(torch.int32), z.to(torch.int32))
    decoded, _ = entropy.decode(model, entropy.encode(model, latents), (128, 128))
    assert torch.equal(decoded.y, latents.y)
    assert torch.equal(decoded.z, latents.z)


def test_latents_that_are_not_finite():
    with pytest.raises(ValueError, match="y hold NaN"):
        Unrounded(torch.tensor([float("nan")]), torch.zeros(1)).at()
    with pytest.raises(ValueError, match="z hold NaN"):
        Unrounded(torch.zeros(1), torch.tensor([float("inf")])).at()


def test_length_is_close_to_the_ideal():
    """On latents drawn from the model's own distributions, so that the ideal is the entropy."""
    model = fill(FLIC(SMALL), seed=3)
    with torch.no_grad():
        state = model.state_dict()
        state["tca.entropy_parameters_net.4.bias"][1::3] = 3.0
        model.load_state_dict(state)
        shape = (16, 24)
        z = torch.zeros(1, SMALL["hyper"], 4, 6)
        tca = model.tca.begin(model.hyper_features(z + model.z_medians()))
        previous, bits, slices = None, 0.0, []
        for i in range(SMALL["slices"]):
            means, scales, _ = model.tca.next_slice(tca, i, previous)
            scales = scales.clamp(min=0.01)
            previous = torch.round(means + scales * torch.randn(means.shape))
            bits -= model.gaussian_conditional(previous, means, scales).log2().sum().item()
            slices.append(previous)
    y = torch.cat(slices, dim=1).to(torch.int32)
    assert y.shape[2:] == shape
    [stream] = entropy.encode(model, Latents(y, z.to(torch.int32)))
    rows, firsts = z_probabilities(model)
    bits -= sum(np.log2(row[-first]) for row, first in zip(rows, firsts, strict=True)) * 24
    assert 8 * len(stream) <= 1.01 * bits + 64 * 8


def z_probabilities(model):
    prior = model.entropy_bottleneck
    groups = (prior.matrices, prior.biases, prior.factors)
    arrays = [[p.detach().double().numpy() for p in group] for group in groups]
    medians = prior.quantiles[:, 0, 1].detach().double().numpy()
    return z_prior.probabilities(medians, *arrays)


@torch.no_grad()
def test_z_probabilities_are_the_priors():
    model = base_model()
    rows, firsts = z_probabilities(model)
    assert len(rows) == 192
    for channel in (0, 7, 191):
        row, first = rows[channel], firsts[channel]
        z = torch.zeros(1, 192, 1, len(row))
        values = torch.arange(first, first + len(row))
        z[0, channel, 0] = model.entropy_bottleneck.quantiles[channel, 0, 1] + values
        _, likelihood = model.entropy_bottleneck(z)
        np.testing.assert_allclose(row, likelihood[0, channel, 0].numpy(), atol=2e-6)
        assert 1 - row.sum() < 2.1 * z_prior.TAIL


def test_portable_functions():
    x = np.linspace(-30, 30, 20001)
    np.testing.assert_allclose(z_prior.exp(x), np.exp(x), rtol=1e-15)
    np.testing.assert_allclose(z_prior.log(np.exp(x)), x, rtol=2e-15, atol=1e-15)
    np.testing.assert_allclose(z_prior.tanh(x), np.tanh(x), atol=5e-16)
    np.testing.assert_allclose(z_prior.softplus(x), np.logaddexp(0, x), rtol=1e-14, atol=1e-15)


def test_the_engine_follows_the_weights():
    model = fill(FLIC(SMALL))
    before = engine_of(model)
    assert engine_of(model) is before
    with torch.no_grad():
        model.entropy_bottleneck.biases[0].add_(1)
    assert engine_of(model).z_tables.fingerprint() != before.z_tables.fingerprint()
    networks = engine_of(model).networks
    model.tca.TCA.lift.weight.data.mul_(2)  # no version counter sees this
    assert engine_of(model).networks.fingerprint != networks.fingerprint
