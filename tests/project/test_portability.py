"""Every machine writes the same bytes and reads the same integers.

"Machine" is what one machine can vary: the engine's instruction set and threads, the coder's
instruction set, one picture or several at once, and the float environment of the caller.
"""

import contextlib
import copy
import itertools

import numpy as np
import pytest
import torch
from golden_model import base_model, golden, small_model

import flic
from flic.codec import codec
from flic.coding import entropy, model_engine
from flic.coding.entropy import Latents, Unrounded
from flic.format import container
from flic.pictures import images
from flic_kernels import native, rans

pytestmark = pytest.mark.usefixtures("one_thread")

ISAS = native.available_isas()
COMBINATIONS = list(itertools.product(ISAS, (1, 2, 5)))

# x86: flush results to zero, take subnormal operands as zero, and the rounding modes down, up and
# towards zero. aarch64: the same bits of FPCR.
if native.library().flic_default_float_environment() == 0x1F80:
    MODES = [0x1F80 | 0x8040 | rounding << 13 for rounding in range(4)]
else:
    MODES = [1 << 24 | rounding << 22 for rounding in range(4)]


@pytest.fixture(scope="module")
def engines():
    """Engines of a model by (instruction set, threads), made once a model."""
    kept = {}

    def engines_of(model):
        if id(model) not in kept:
            made = {
                (isa, threads): model_engine.build(model, isa=isa, threads=threads)
                for isa, threads in COMBINATIONS
            }
            kept[id(model)] = model, made  # the model too, so that its id stays its own
        return kept[id(model)][1]

    return engines_of


def one(latents: Latents, i: int) -> Latents:
    return Latents(latents.y[i : i + 1], latents.z[i : i + 1])


def same(a: Latents, b: Latents) -> bool:
    return torch.equal(a.y, b.y) and torch.equal(a.z, b.z)


def ways(engines):
    """Every engine; each of its instruction sets meets each of the coder's."""
    for i, ((isa, threads), made) in enumerate(engines.items()):
        coder = ISAS[(i + i // len(ISAS)) % len(ISAS)]
        with native.use_isa(coder):
            yield f"{isa}, {threads} threads, coder {coder}", made


def every_way(model, latents: Latents, size, engines) -> None:
    """Asserts that all write one stream a picture, and that all read it."""
    count = len(latents.y)
    streams = entropy.encode(model, latents)
    for name, made in ways(engines):
        assert entropy.encode(model, latents, made) == streams, name
        alone = [entropy.encode(model, one(latents, i), made)[0] for i in range(count)]
        assert alone == streams, name
        assert same(entropy.decode(model, streams, size, made)[0], latents), name
        for i, stream in enumerate(streams):
            assert same(entropy.decode(model, [stream], size, made)[0], one(latents, i)), name


def drawn(model, size, seed: int, spread: float) -> Latents:
    """Integers that no picture gives: wide, with outliers that the tables do not hold."""
    rng = np.random.default_rng(seed)
    config, (h, w) = model.config, (side // 64 for side in size)
    y = rng.standard_normal((3, config.latent, 4 * h, 4 * w)) * spread
    z = rng.standard_normal((3, config.hyper, h, w)) * 3
    y.flat[:: y.size // 7], z.flat[:: z.size // 5] = -(10**6), 10**5
    return Unrounded(torch.from_numpy(y), torch.from_numpy(z)).at()


def pictures(count: int, height: int, width: int, seed: int) -> torch.Tensor:
    """Smooth colours with edges, [count, 3, height, width]."""
    rng = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 5, 5, generator=rng)
    x = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")
    x[..., width // 3 :] += 0.3 * torch.rand(count, 3, 1, 1, generator=rng)
    return x.clamp(0, 1)


@pytest.mark.parametrize("size", [(128, 128), (70, 300)])
@pytest.mark.parametrize("which", ["filled", "fresh"])
def test_small_pictures(which, size, engines, request):
    model = small_model() if which == "filled" else request.getfixturevalue("small_model")
    latents = model.analyze(pictures(3, *size, seed=1))
    assert latents.y.unique().numel() > 2
    every_way(model, latents, size, engines(model))


@pytest.mark.parametrize("spread", [0.3, 40.0])
def test_integers_of_no_picture(spread, engines):
    model, size = small_model(), (128, 256)
    every_way(model, drawn(model, size, 2, spread), size, engines(model))


def test_analysed_in_bfloat16(engines):
    """Another machine's g_a, here in bfloat16, gives other integers; its file decodes here."""
    model = copy.deepcopy(small_model())
    x = pictures(3, 128, 128, seed=3)
    with torch.autocast("cpu", torch.bfloat16):
        latents = model.analyze(x)
        streams = entropy.encode(model, latents)
    exact = model.analyze(x)
    assert not same(exact, latents), "bfloat16 changed nothing: the test shows nothing"
    assert entropy.encode(model, latents) == streams
    every_way(model, latents, (128, 128), engines(model))


@pytest.fixture(scope="module")
def subnormal_model():
    """Means, medians and parameters of the prior that flushing to zero would change."""
    model = copy.deepcopy(small_model())
    with torch.no_grad():
        model.entropy_bottleneck.quantiles[:, 0, 1] = torch.tensor([1e-38, -5e-39] * 3)
        model.entropy_bottleneck.matrices[0].mul_(1e-39)
        for part in (model.h_mean_s, model.h_scale_s):
            part[0].subpel_conv[0].weight.mul_(2.0**126)
            part[0].subpel_conv[0].bias.zero_()
    return model


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("which", ["filled", "subnormal"])
def test_callers_with_another_float_environment(which, isa, subnormal_model):
    model = small_model() if which == "filled" else subnormal_model
    latents = model.analyze(pictures(1, 128, 128, seed=4))
    latents.z.zero_()  # so that the medians alone reach the networks
    [stream] = entropy.encode(model, latents)
    for mode, threads in itertools.product(MODES, (1, 2)):
        with native.use_isa(isa), native.float_environment(mode):
            made = model_engine.build(model, isa=isa, threads=threads)
            assert entropy.encode(model, latents, made) == [stream]
            assert same(entropy.decode(model, [stream], (128, 128), made)[0], latents)


@pytest.mark.parametrize("mode", MODES)
def test_tables_in_another_float_environment(mode, subnormal_model):
    def fingerprints():
        made = rans.gaussian_tables.__wrapped__(), model_engine.build(subnormal_model).z_tables
        some = rans.Tables.from_pmfs(rows, [0] * len(rows))
        return [tables.fingerprint() for tables in (*made, some)]

    rng = np.random.default_rng(6)
    rows = [rng.gamma(0.1, 1e-3, size) for size in range(100, 140)]
    expected = fingerprints()
    with native.float_environment(mode):
        assert fingerprints() == expected


@pytest.mark.parametrize("mode", MODES)
def test_the_callers_float_environment_is_put_back(mode):
    model = small_model()
    latents = model.analyze(pictures(1, 128, 128, seed=5))
    with native.float_environment(mode):
        streams = entropy.encode(model, latents)
        entropy.decode(model, streams, (128, 128))
        with contextlib.suppress(flic.FlicError):
            entropy.decode(model, [b"\x01"], (128, 128))
        flags = 0x3F  # exceptions that have happened, kept in the same register
        assert native.library().flic_exchange_float_environment(mode) & ~flags == mode & ~flags


def test_the_kept_engine_follows_instruction_set_and_threads():
    model = small_model()
    for isa in ISAS:
        with native.use_isa(isa):
            assert model_engine.engine_of(model).networks.isa == isa
    assert model_engine.engine_of(model).networks.threads == torch.get_num_threads() == 1


def test_the_published_size():
    """Base configuration: encoded with each vector instruction set, decoded with all."""
    model = base_model()
    latents = model.analyze(torch.from_numpy(golden()["full0/x"]))
    fast = [isa for isa in ISAS if isa != "scalar"] or ["scalar"]
    streams = {
        entropy.encode(model, latents, model_engine.build(model, isa=isa, threads=threads))[0]
        for isa, threads in zip(fast, (1, 2), strict=False)
    }
    assert len(streams) == 1
    for isa in ISAS:
        made = model_engine.build(model, isa=isa, threads=2)
        with native.use_isa(isa):
            assert same(entropy.decode(model, list(streams), (128, 128), made)[0], latents)


def test_photographs(photos):
    """Crops of real pictures, the built-in model."""
    model = flic.load_model()
    made = {
        (isa, threads): model_engine.build(model, isa=isa, threads=threads)
        for isa, threads in COMBINATIONS
        if isa != "scalar"
    }
    scalar = model_engine.build(model, isa="scalar", threads=2)
    paths = sorted((photos / "eval").glob("*.png"))
    assert paths
    for i, path in enumerate(paths):
        pixels = images.read(path).pixels[100:356, 150:406]
        data = codec.Codec(model).encode(np.ascontiguousarray(pixels))
        (stream,) = container.unpack(data).streams
        latents = entropy.decode(model, [stream], pixels.shape[:2])[0]
        others = {**made, ("scalar", 2): scalar} if i == 0 else made
        for name, other in others.items():
            assert entropy.encode(model, latents, other) == [stream], (path.name, name)
            decoded = entropy.decode(model, [stream], pixels.shape[:2], other)[0]
            assert same(decoded, latents), (path.name, name)
