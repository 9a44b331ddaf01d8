"""Loading what people have: namings, wrappings, containers, before and after update()."""

import pytest
import torch
from golden_model import SMALL, base_model, fill, golden_keys, small_model

from flic import FLIC, checkpoint
from flic.checkpoint import CheckpointError


def same(a: FLIC, b: FLIC) -> bool:
    theirs = b.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in a.state_dict().items())


def legacy(state):
    return checkpoint.to_legacy_names(state)


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
    loaded = checkpoint.load(path)
    assert loaded.config == model.config
    assert same(loaded, model)
    state, _ = checkpoint.read(path)
    assert same(FLIC.from_state_dict(state), model)
    target = tmp_path / "converted.safetensors"
    checkpoint.convert(path, target, compact=compact)
    assert same(checkpoint.load(target), model)
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
            checkpoint.load(path)
    for name in ("model.pth", "model.safetensors"):
        (tmp_path / name).write_bytes(b"not a checkpoint")
        with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
            checkpoint.load(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        checkpoint.load(tmp_path / "absent.pth")


def test_pickles_that_run_code_are_refused(tmp_path):
    class Harmful:
        def __reduce__(self):
            return print, ("harm",)

    path = tmp_path / "harmful.pth"
    torch.save({"state_dict": Harmful()}, path)
    with pytest.raises(CheckpointError, match="cannot be read"):
        checkpoint.load(path)


def test_fingerprint_tells_weights_apart():
    other = fill(FLIC(SMALL), seed=1)
    assert checkpoint.fingerprint(other) != checkpoint.fingerprint(small_model())
