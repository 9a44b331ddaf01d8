"""Loading what people have: namings, wrappings, containers, before and after update()."""

import re

import numpy as np
import pytest
import torch
from cli_tools import fails, run
from golden_model import SMALL, base_model, fill, golden_keys, small_model
from peak_memory import PeakMemory
from places import ROOT

from flic import FLIC
from flic.model import checkpoint, loading, state_dict
from flic.model.checkpoint import CheckpointError


def same(a: FLIC, b: FLIC) -> bool:
    theirs = b.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in a.state_dict().items())


def legacy(state):
    return state_dict.to_legacy_names(state)


def parallel(state):
    return {f"module.{name}": value for name, value in state.items()}


@pytest.mark.parametrize("naming", [dict, legacy, parallel, lambda s: parallel(legacy(s))])
@pytest.mark.parametrize("wrapping", [dict, lambda s: {"state_dict": s}, lambda s: {"network": s}])
@pytest.mark.parametrize("updated", [False, True])
def test_every_naming_loads(naming, wrapping, updated):
    model = fill(FLIC(SMALL))
    if updated:
        model.update()
    wrapped = wrapping(naming(model.state_dict()))
    assert same(FLIC.from_state_dict(wrapped), model)
    other = FLIC(SMALL)
    other.load_state_dict(wrapped)
    assert same(other, model)
    assert checkpoint.fingerprint(other) == checkpoint.fingerprint(small_model())


def test_base_loads_both_ways():
    model = base_model()
    names = set(model.state_dict(legacy_names=True))
    assert len(names) == 835
    assert {"entropy_bottleneck._matrix0", "entropy_bottleneck._factor3"} <= names
    assert names != set(golden_keys())
    assert same(FLIC.from_state_dict(model.state_dict(legacy_names=True)), model)


def test_loading_an_updated_model_into_an_updated_one():
    model = fill(FLIC(SMALL))
    model.update()
    other = FLIC(SMALL)
    other.update()
    other.load_state_dict(model.state_dict())
    assert same(other, model)


@pytest.mark.parametrize("suffix", [".pth", ".pth.tar", ".pt", ".safetensors"])
@pytest.mark.parametrize("compact", [False, True])
def test_containers(tmp_path, suffix, compact):
    model, path = small_model(), tmp_path / f"model{suffix}"
    if suffix == ".safetensors":
        checkpoint.save(model, path, compact=compact)
    else:
        torch.save({"state_dict": model.state_dict(), "epoch": 3}, path)
    loaded = loading.load(path)
    assert loaded.config == model.config
    assert same(loaded, model)
    state, _ = checkpoint.read(path)
    assert same(FLIC.from_state_dict(state), model)
    target = tmp_path / "converted.safetensors"
    loading.convert(path, target, compact=compact)
    assert same(loading.load(target), model)
    assert list(tmp_path.glob("*.part")) == []


def test_wrong_files_name_the_keys(tmp_path):
    state = small_model().state_dict()
    state["extra.weight"] = state.pop("g_a.0.conv1.weight")
    state["tca.hyper_trans.bias"] = torch.zeros(7)
    with pytest.raises(CheckpointError) as error:
        FLIC(SMALL).load_state_dict(state)
    for word in ("g_a.0.conv1.weight", "extra.weight", "tca.hyper_trans.bias [7] for [24]"):
        assert word in str(error.value)
    path = tmp_path / "model.pth"
    for content in ({"a": torch.zeros(1)}, [1, 2], {"state_dict": {"a": 1}}):
        torch.save(content, path)
        with pytest.raises(CheckpointError, match=r"model\.pth"):
            loading.load(path)
    for name in ("model.pth", "model.safetensors"):
        (tmp_path / name).write_bytes(b"not a checkpoint")
        with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
            loading.load(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        loading.load(tmp_path / "absent.pth")


def claims(**shapes: tuple[int, ...]) -> dict:
    """A state dict that says little more than a configuration, `SMALL` but for `shapes`."""
    sizes = {
        "g_a.1.conv1_1.weight": (8, 0), "g_a.4.conv1_1.weight": (12, 0),
        "g_a.7.conv1_1.weight": (16, 0), "g_a.9.weight": (12, 0), "h_a.3.weight": (6, 0),
        "tca.TCA.lift.weight": (48, 4, 0), "tca.TCA.layers.1.q1.weight": (0,),
    }  # fmt: skip
    for i in (1, 4, 7):
        sizes[f"g_a.{i}.trans_block.attns.0.relative_position_bias_table"] = (0, 1)
    return {name: torch.zeros(shape) for name, shape in (sizes | shapes).items()}


ABSURD = {
    "a latent": {"g_a.9.weight": (65536, 0), "tca.TCA.lift.weight": (262144, 16384, 0)},
    "a hyper": {"h_a.3.weight": (10**9, 0)},
    "a width": {"g_a.7.conv1_1.weight": (10**6, 0)},
    "no width": {"g_a.7.conv1_1.weight": (0, 0)},
    "a depth": {"tca.TCA.layers.499.q1.weight": (0,)},
    "an endless depth": {f"tca.TCA.layers.{'9' * 5000}.q1.weight": (0,)},
    "no latent": {"g_a.9.weight": (0, 0)},
    "no slice": {"tca.TCA.lift.weight": (48, 0)},
    "no dimensions": {"g_a.9.weight": ()},
    "nothing else": {},
    "the largest": {
        "g_a.9.weight": (2048, 0), "tca.TCA.lift.weight": (32768, 1024, 0),
        "tca.TCA.layers.63.q1.weight": (0,), "h_a.3.weight": (2048, 0),
    },
}  # fmt: skip


@pytest.mark.parametrize("shapes", ABSURD.values(), ids=list(ABSURD))
def test_absurd_claims_are_one_error_and_take_no_memory(tmp_path, shapes):
    path = tmp_path / "model.pth"
    torch.save(claims(**shapes), path)
    checkpoint.read(path)
    for load in (lambda: loading.load(path), lambda: FLIC.from_state_dict(claims(**shapes))):
        with PeakMemory() as peak, pytest.raises(CheckpointError, match="state dict"):
            load()
        assert peak.bytes < 40 << 20, f"{peak.bytes >> 20} MiB"


def test_no_layers_at_all():
    state = {k: v for k, v in claims().items() if "layers" not in k}
    with pytest.raises(CheckpointError, match="no T-CA layers"):
        FLIC.from_state_dict(state)


def test_tensors_that_store_less_than_they_claim_are_refused(tmp_path):
    path, name = tmp_path / "model.pth", "g_a.0.conv1.weight"
    plain = small_model().state_dict()[name]
    for value, message in (
        (torch.zeros(1).expand(plain.shape), "fewer values than it claims"),
        (torch.empty(plain.shape, device="meta"), "no plain tensor"),
        (plain.to_sparse(), "no plain tensor"),
        (plain.to(torch.complex64), "no plain tensor"),
    ):
        torch.save(small_model().state_dict() | {name: value}, path)
        with pytest.raises(CheckpointError, match=rf"model\.pth: {name} .*{message}"):
            loading.load(path)


@pytest.mark.parametrize("shift", [0.5, float("nan")])
def test_stored_buffers_that_follow_from_the_configuration_are_ignored(tmp_path, shift):
    """The fingerprint leaves them out, so they must not change a pixel."""
    picture = torch.rand(1, 3, 100, 140, generator=torch.Generator().manual_seed(3))
    model = small_model()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    changed = [
        name
        for name in state
        if name.endswith((".pedestal", ".bound", ".relative_position_index", ".scale_bound"))
    ]
    for name in changed:
        state[name] += torch.tensor(shift).to(state[name].dtype) + 1
    assert len(changed) > 50
    path = tmp_path / "model.pth"
    torch.save(state, path)
    fresh = FLIC(SMALL)
    fresh.load_state_dict(state)
    coded = model.compress(picture)
    for other in (loading.load(path), FLIC.from_state_dict(state), fresh.eval()):
        assert checkpoint.fingerprint(other) == checkpoint.fingerprint(model)
        assert same(other, model)
        assert other.compress(picture) == coded
        assert torch.equal(other.decompress(**coded)["x_hat"], model.decompress(**coded)["x_hat"])


def test_pickles_that_run_code_are_refused(tmp_path):
    class Harmful:
        def __reduce__(self):
            return print, ("harm",)

    path = tmp_path / "harmful.pth"
    torch.save({"state_dict": Harmful()}, path)
    with pytest.raises(CheckpointError, match="cannot be read"):
        loading.load(path)


@pytest.mark.parametrize("flat", [True, False])
def test_a_foreign_object_beside_the_weights_says_what_to_do(tmp_path, flat):
    state, path = small_model().state_dict(), tmp_path / "model.pth"
    beside = {"loss": np.float64(1.5)}
    torch.save(state | beside if flat else {"state_dict": state, **beside}, path)
    with pytest.raises(CheckpointError, match=r"numpy.*scalar.*torch\.save") as error:
        loading.load(path)
    assert "\n" not in str(error.value) and str(path) in str(error.value)
    # what the message says works
    code = re.search(r"state = .*", str(error.value))[0]
    exec(code, {"torch": torch, "PATH": path, "NEW": path})
    assert same(loading.load(path), small_model())


def test_a_number_among_the_weights_says_what_to_do():
    with pytest.raises(CheckpointError, match="'loss' holds float; want .* 'state_dict'"):
        FLIC(SMALL).load_state_dict(small_model().state_dict() | {"loss": 1.5})


@pytest.mark.parametrize("updated", [False, True])
def test_legacy_files_are_as_the_published_ones(tmp_path, updated):
    """Flat, CompressAI 1.2.4's names, no tables, and the bounds that the published files have."""
    model = fill(FLIC(SMALL))
    if updated:
        model.update()
    state = model.state_dict()  # of an older version, with other bounds
    state["gaussian_conditional._entropy_model.upper_bound_mean.bound"] = torch.zeros(1)
    torch.save({"state_dict": state}, tmp_path / "x.pth.tar")
    run("convert", tmp_path / "x.pth.tar", tmp_path / "out.pth.tar", "--legacy")
    state = torch.load(tmp_path / "out.pth.tar", weights_only=True)
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    prior = {name for name in state if name.startswith("entropy_bottleneck.")}
    names = {name for name in golden_keys() if name.startswith("entropy_bottleneck.")}
    groups = {"matrices.": "_matrix", "biases.": "_bias", "factors.": "_factor"}
    for present, before in groups.items():
        names = {name.replace(present, before) for name in names}
    assert prior == names and "entropy_bottleneck._matrix0" in names
    buffers = {name for name in golden_keys() if name.startswith("gaussian_conditional.")}
    assert buffers == {name for name in state if name.startswith("gaussian_conditional.")}
    for name in buffers:
        dtype, shape = golden_keys()[name]
        assert (str(state[name].dtype), list(state[name].shape)) == (f"torch.{dtype}", shape), name
    assert state["entropy_bottleneck._quantized_cdf"].shape == (0,)
    bounds = [state[f"gaussian_conditional._entropy_model.upper_bound_{name}.bound"].item()
              for name in ("mean", "scale")]  # fmt: skip
    assert bounds == [-99, -255]
    assert same(loading.load(tmp_path / "out.pth.tar"), small_model())
    options = ("--legacy", tmp_path / "x.pth.tar", tmp_path / "x.safetensors")
    fails("convert", *options, match="--legacy needs a .pth.tar")


README = ROOT / "README.md"


@pytest.mark.parametrize("wrapping", [legacy, lambda state: {"state_dict": state}])
def test_readme_loads_flat_and_wrapped_files(tmp_path, monkeypatch, wrapping):
    """Its block on published checkpoints, with a small network in place of the published one."""
    section = README.read_text().split("## With the published checkpoints")[1]
    code = section.split("```python\n")[1].split("```")[0]
    assert code.count("FrequencyAwareTransFormer()") == 1
    code = code.replace("FrequencyAwareTransFormer()", "FLIC(SMALL)")
    torch.save(wrapping(small_model().state_dict()), tmp_path / "checkpoint.pth.tar")
    monkeypatch.chdir(tmp_path)
    names = {"FLIC": FLIC, "SMALL": SMALL, "x": torch.rand(1, 3, 128, 128)}
    exec(code, names)
    assert same(names["net"], small_model()) and names["x_hat"].shape == names["x"].shape


def test_fingerprint_tells_weights_apart():
    other = fill(FLIC(SMALL), seed=1)
    assert checkpoint.fingerprint(other) != checkpoint.fingerprint(small_model())


def test_matrices_in_16_bits(tmp_path):
    """A file of half the size, whose model is the rounded one to the last bit."""
    model, path = small_model(), tmp_path / "half.safetensors"
    checkpoint.save(model, path, compact=True, half=True)
    half = loading.load(path)
    assert checkpoint.fingerprint(half) == checkpoint.read(path)[1]["fingerprint"]
    assert checkpoint.fingerprint(half) == checkpoint.fingerprint(checkpoint.rounded(model))
    assert checkpoint.fingerprint(half) != checkpoint.fingerprint(model)
    for name, value in half.named_parameters():
        original = model.get_parameter(name)
        assert value.dtype == torch.float32
        assert torch.allclose(value, original, rtol=2**-11, atol=2**-25), name
        if value.dim() < 2 or "gdn" in name:
            assert torch.equal(value, original), name
    with torch.no_grad():
        model.g_a[0].conv1.weight[0] = 1e5
    with pytest.raises(CheckpointError, match="g_a.0.conv1.weight holds values"):
        checkpoint.save(model, path, half=True)
