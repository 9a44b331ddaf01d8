"""z's tables: the integers of the numpy reference, from any prior, in any build, or refused."""

import contextlib
import ctypes

import numpy as np
import pytest
import weights_reference as weights
import z_prior_reference
from native_builds import compiler, tables_library

from flic.coding import z_prior
from flic.model import library
from flic_kernels import interface, native, rans

BUILT_IN = sorted(library.WEIGHTS.glob("*.safetensors"))
LARGEST = np.finfo(np.float32).max
WIDTHS = (1, 3, 3, 3, 3, 1)


def shapes(channels):
    yield "quantiles", (channels, 1, 3)
    for i in range(5):
        yield f"matrices.{i}", (channels, WIDTHS[i + 1], WIDTHS[i])
        yield f"biases.{i}", (channels, WIDTHS[i + 1], 1)
        if i < 4:
            yield f"factors.{i}", (channels, WIDTHS[i + 1], 1)


def prior(draw, channels=40, **changes):
    """A prior each channel: draw(shape) makes the parameters that `changes` does not."""
    made = {}
    for name, shape in shapes(channels):
        value = changes.get(name.partition(".")[0], draw)
        made[f"entropy_bottleneck.{name}"] = np.float32(value(shape))
    return made


def priors():
    """Name, parameters of 40 priors each."""
    rng = np.random.default_rng(11)

    def normal(scale=1.0, center=0.0):
        return lambda shape: rng.normal(center, scale, shape)

    def signed(low, high):
        """Magnitudes 10^low to 10^high."""
        return lambda shape: rng.choice([-1, 1], shape) * 10 ** rng.uniform(low, high, shape)

    def chosen(*values):
        return lambda shape: rng.choice(values, shape)

    yield "as trained", prior(normal(0.5), matrices=normal(1, -0.5))
    yield "wide", prior(normal(3))
    yield "wider", prior(normal(30))
    yield "any magnitude", prior(signed(-44, 3))
    yield "any large magnitude", prior(signed(0, 38), matrices=normal(2))
    yield "flat", prior(normal(0.1), matrices=normal(1, -20))
    yield "flatter", prior(normal(0.1), matrices=normal(200, -700))
    yield "one symbol", prior(normal(0.1), matrices=normal(5, 38))
    yield "far medians", prior(normal(), quantiles=signed(2, 38))
    yield "far biases", prior(normal(), biases=signed(2, 38))
    yield "large factors", prior(normal(), factors=signed(0, 38))
    yield "subnormal", prior(signed(-45, -39))
    yield "zero", prior(np.zeros)
    yield "largest", prior(chosen(-LARGEST, LARGEST, 0.0, 1.0), matrices=chosen(LARGEST, 1.0))
    yield "lowest", prior(normal(), matrices=chosen(-LARGEST, -1e30, -1e10, -750.0, 1.0))


PRIORS = dict(priors())


def fingerprints(weights):
    """Of z's tables, each channel's alone; None where it is refused."""
    found = []
    for channel in range(len(weights["entropy_bottleneck.quantiles"])):
        one = {name: value[channel : channel + 1] for name, value in weights.items()}
        try:
            found.append(z_prior.build(one)[0].fingerprint())
        except ValueError:
            found.append(None)
    return found


@pytest.fixture(scope="module")
def expected():
    """What the reference makes of every prior."""

    def tables(weights, channel):
        one = {name: value[channel : channel + 1] for name, value in weights.items()}
        with contextlib.suppress(ValueError):
            return z_prior_reference.tables(one).fingerprint()

    with np.errstate(all="ignore"):
        return {name: [tables(w, c) for c in range(40)] for name, w in PRIORS.items()}


@pytest.mark.parametrize("name", PRIORS)
def test_the_references_integers(name, expected):
    assert fingerprints(PRIORS[name]) == expected[name]


def test_most_priors_are_not_refused(expected):
    refused = {name: found.count(None) for name, found in expected.items()}
    assert sum(refused.values()) == refused["lowest"] < 40


@pytest.mark.parametrize("path", BUILT_IN, ids=lambda path: path.stem)
def test_the_built_in_models(path):
    arrays, _ = weights.read(path)
    tables, medians = z_prior.build(arrays)
    assert tables.fingerprint() == z_prior_reference.tables(arrays).fingerprint()
    assert np.array_equal(medians, arrays["entropy_bottleneck.quantiles"][:, :, 1:2])


def test_many_channels_are_each_alone():
    together = z_prior.build(PRIORS["as trained"])[0]
    assert together.fingerprint() == z_prior_reference.tables(PRIORS["as trained"]).fingerprint()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", [name for name, _ in shapes(1)])
def test_what_is_not_finite_is_refused(name, bad):
    changed = {key: value.copy() for key, value in PRIORS["as trained"].items()}
    changed[f"entropy_bottleneck.{name}"][-1, -1, int(name == "quantiles")] = bad  # the median
    with pytest.raises(ValueError, match="NaN or infinity"):
        z_prior.build(changed)


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value[:, :, :0],
        lambda value: value[:-1],
        lambda value: value.astype(np.float64),
    ],
)
@pytest.mark.parametrize("name", ["matrices.1", "biases.4", "factors.0"])
def test_other_shapes_and_types_are_refused(name, change):
    key = f"entropy_bottleneck.{name}"
    with pytest.raises(ValueError, match=f"{name} must be float32"):
        z_prior.build(PRIORS["zero"] | {key: change(PRIORS["zero"][key])})


def variants():
    """Name, compiler command, flags."""
    yield "O0", (compiler("g++", "c++", "clang++"),), ["-O0", "-ffp-contract=off"]
    if compiler("clang++"):
        yield "clang", ("clang++",), ["-O3", "-ffp-contract=off"]


@pytest.mark.skipif(not compiler("g++", "c++", "clang++"), reason="no C++ compiler on the path")
@pytest.mark.parametrize(
    ("command", "flags"), [pytest.param(*build, id=name) for name, *build in variants()]
)
def test_same_integers_from_another_build(tmp_path, monkeypatch, expected, command, flags):
    fingerprint = rans.gaussian_tables().fingerprint()
    other = interface.declared(ctypes.CDLL(str(tables_library(tmp_path, flags, command))))
    monkeypatch.setattr(native, "library", lambda: other)
    assert rans.gaussian_tables.__wrapped__().fingerprint() == fingerprint
    assert {name: fingerprints(weights) for name, weights in PRIORS.items()} == expected
