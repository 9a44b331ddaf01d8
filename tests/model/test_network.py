"""The model as users meet it: sizes, modes, gradients, compilation."""

import math

import pytest
import torch
from golden_model import SMALL, small_model
from torch import nn

import flic
from flic import FLIC, FrequencyAwareTransFormer
from flic.config import CONFIGS, Config
from flic.model.network import pad


def test_names_and_configurations():
    assert FrequencyAwareTransFormer is FLIC
    assert FLIC("tiny").config == CONFIGS["tiny"]
    assert FLIC(SMALL).config.name == "custom"
    with pytest.raises(ValueError, match="known: base, tiny"):
        FLIC("huge")


@pytest.mark.parametrize(
    "change",
    [
        {"heads": (4, 6, 4)},
        {"heads": (4, 4, 12)},
        {"latent": 13},
        {"ratio": 3},
        {"depth": 0},
        {"widths": (8, 12)},
        {"widths": (0, 12, 16)},
        {"widths": (8, 12, 10**6)},
        {"heads": (4, 4, 10**6), "widths": (8, 12, 10**6)},
        {"latent": 65536, "slices": 4},
        {"hyper": 10**9},
        {"latent": 3000, "slices": 300, "ratio": 16},
        {"ratio": 1024},
        {"depth": 500},
        {"depth": 2.5},
        {"hyper": "6"},
        {"hyper": None},
        {"latent": math.nan},
    ],
)
def test_impossible_configurations(change):
    with pytest.raises(ValueError):
        Config(**(SMALL | change))


def test_published_arguments():
    """Only the values that model.md gives: 192 channels of z, 320 of y, five slices, the heads."""
    from flic.config import resolve_published

    net = FrequencyAwareTransFormer(
        N=192, M=320, num_slices=5, head_dim=[8, 16, 32, 32, 16, 8], config=[2, 2, 2, 2, 2, 2]
    )
    assert net.config == CONFIGS["base"] and (net.M, net.num_slices) == (320, 5)
    assert resolve_published("base", N=(96, 144, 256)) == CONFIGS["base"]
    assert resolve_published("base", head_dim=[12, 9, 8, 8, 9, 12]) == CONFIGS["base"]
    assert (small_model().M, small_model().num_slices) == (SMALL["latent"], SMALL["slices"])


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"M": 192}, "M=192: the published network has 320"),
        ({"N": 128}, "N=128: .* 192 or"),
        ({"num_slices": 10}, "num_slices=10: .* 5;"),
        ({"head_dim": [8, 8, 8, 8, 8, 8]}, "head_dim=.* has .8, 16, 32, 32, 16, 8. or"),
        ({"config": [2, 2, 2]}, r"config=\[2, 2, 2\]: .* .2, 2, 2, 2, 2, 2."),
        ({"config": "tiny", "M": 320}, "M describe the published network, not .* 'tiny'"),
    ],
)
def test_other_published_arguments_are_refused(wrong, message):
    with pytest.raises(flic.FlicError, match=message) as error:
        FrequencyAwareTransFormer(**wrong)
    assert "\n" not in str(error.value)


def test_calls_with_paths_say_what_to_call(tmp_path):
    net, x = small_model(), torch.zeros(1, 3, 128, 128)
    for call in (
        lambda: net.compress(x, tmp_path / "out"),
        lambda: net.compress(x, "out", "name"),
        lambda: net.compress(x, path="out"),
    ):
        with pytest.raises(flic.FlicError, match=r"net\.compress\(x\).*flic\.encode"):
            call()
    for call in (
        lambda: net.decompress("out"),
        lambda: net.decompress(tmp_path / "out"),
        lambda: net.decompress([[b""]], (128, 128), "out"),
        lambda: net.decompress(path="out", strings=[[b""]]),
    ):
        with pytest.raises(flic.FlicError, match=r"net\.decompress\(\*\*coded\).*flic\.decode"):
            call()
    assert list(tmp_path.iterdir()) == []


def test_unknown_fields_of_a_configuration():
    with pytest.raises(ValueError, match="widht"):
        FLIC(SMALL | {"widht": 3})


def test_a_model_without_memory():
    with torch.device("meta"):
        model = FLIC(SMALL)
    real = [name for name, parameter in model.named_parameters() if not parameter.is_meta]
    assert all(name.startswith("entropy_bottleneck.") for name in real)  # CompressAI's own, small
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    assert shapes == {name: value.shape for name, value in small_model().state_dict().items()}


@pytest.mark.parametrize("size", [(128, 128), (1, 1), (129, 200), (250, 64)])
@torch.no_grad()
def test_any_size(size):
    x = torch.rand(2, 3, *size)
    out = small_model()(x)
    assert out["x_hat"].shape == x.shape
    height, width = (-(-side // 128) * 8 for side in size)
    for value in (out["likelihoods"]["y"], *out["para"].values()):
        assert value.shape == (2, SMALL["latent"], height, width)
    assert out["likelihoods"]["z"].shape == (2, SMALL["hyper"], height // 4, width // 4)
    for value in (*out["likelihoods"].values(), out["x_hat"]):
        assert bool(torch.isfinite(value).all())


def test_padding():
    x = torch.rand(2, 3, 100, 130)
    padded = pad(x)
    assert padded.shape == (2, 3, 128, 256)
    assert torch.equal(padded[:, :, :100, :130], x)
    corner = padded[:, :, -1, -1]
    torch.testing.assert_close(corner, x.mean((2, 3)), atol=1e-6, rtol=0)
    near = padded[:, :, 100, :130] - x[:, :, 99]
    assert near.abs().max() < 1 - math.exp(-1 / 8)
    assert pad(x[:, :, :, :128].repeat(1, 1, 2, 1)[:, :, :128]).shape == (2, 3, 128, 128)
    whole = torch.rand(1, 3, 128, 256)
    assert pad(whole) is whole


def test_training_mode():
    torch.manual_seed(0)
    model = FLIC(SMALL).train()
    out = model(torch.rand(2, 3, 128, 128))
    bits = sum(-value.log2().sum() for value in out["likelihoods"].values())
    (bits + (out["x_hat"] ** 2).sum()).backward()
    without = {name for name, p in model.named_parameters() if p.grad is None}
    assert without == {"tca.TCA.start_token", "entropy_bottleneck.quantiles"}
    assert all(bool(torch.isfinite(p.grad).all()) for p in model.parameters() if p.grad is not None)
    model.aux_loss().backward()
    assert bool((model.entropy_bottleneck.quantiles.grad != 0).any())


def test_likelihoods_in_training_are_noisy_and_in_evaluation_not():
    x = torch.rand(1, 3, 128, 128)
    model = FLIC(SMALL)
    with torch.no_grad():
        noisy = [model.train()(x)["likelihoods"]["y"] for _ in range(2)]
        exact = [model.eval()(x)["likelihoods"]["y"] for _ in range(2)]
    assert not torch.equal(*noisy)
    assert torch.equal(*exact)


@torch.no_grad()
def test_forward_is_captured_whole():
    model = small_model()
    x = torch.rand(1, 3, 100, 130)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    ours, theirs = model(x), compiled(x)
    torch.testing.assert_close(theirs["x_hat"], ours["x_hat"])
    torch.testing.assert_close(theirs["likelihoods"], ours["likelihoods"])


@torch.no_grad()
def test_block_compiles():
    block = small_model().g_a[2]
    x = torch.randn(1, 16, 32, 8)
    torch.testing.assert_close(torch.compile(block, fullgraph=True)(x), block(x))


def smooth(model: nn.Module) -> nn.Module:
    """The model in float64 for finite differences."""
    return FLIC(model.config).double().train().requires_grad_(False)


@pytest.mark.parametrize("name", ["g_a", "g_s", "h_a", "h_mean_s", "h_scale_s"])
def test_transform_gradients(name):
    torch.manual_seed(1)
    model = smooth(small_model())
    channels, side = {
        "g_a": (3, 128),
        "g_s": (SMALL["latent"], 8),
        "h_a": (SMALL["latent"], 16),
    }.get(name, (SMALL["hyper"], 2))
    transform = getattr(model, name)
    x = torch.randn(1, channels, side, side, dtype=torch.float64, requires_grad=True)
    weights = [p.requires_grad_() for p in transform.parameters()]
    assert torch.autograd.gradcheck(
        lambda x, *_: transform(x), (x, *weights), fast_mode=True, eps=1e-6, atol=1e-5
    )


def test_tca_gradients():
    torch.manual_seed(2)
    model = smooth(small_model()).tca
    hyper = torch.randn(1, 2 * SMALL["latent"], 8, 16, dtype=torch.float64, requires_grad=True)
    y = torch.randn(1, SMALL["latent"], 8, 16, dtype=torch.float64, requires_grad=True)
    weights = [p.requires_grad_() for name, p in model.named_parameters() if "token" not in name]
    weights += [p.requires_grad_() for p in model.TCA.start_token_from_hyperprior.parameters()]
    assert torch.autograd.gradcheck(
        lambda *inputs: model(*inputs[:2]), (hyper, y, *weights), fast_mode=True, atol=1e-5
    )
