"""save_pretrained and from_pretrained on a local folder, and FLIC without huggingface_hub."""

import importlib.util
import json
import sys

import pytest
import torch
from golden_model import SMALL, fill

import flic
from flic import FLIC
from flic.model import checkpoint

huggingface_hub = pytest.importorskip("huggingface_hub")


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """Whatever would reach for the network fails at once."""

    def refuse(*args, **kwargs):
        raise AssertionError("the network was asked")

    monkeypatch.setattr("socket.socket.connect", refuse)


@pytest.fixture
def folder(small_model, tmp_path):
    small_model.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def assert_same(model: FLIC, other: FLIC) -> None:
    ours, theirs = model.state_dict(), other.state_dict()
    assert list(ours) == list(theirs)
    for name, value in ours.items():
        assert value.dtype == theirs[name].dtype and torch.equal(value, theirs[name]), name
    assert model.config == other.config


def test_it_is_the_mixin():
    assert issubclass(FLIC, huggingface_hub.PyTorchModelHubMixin)
    assert FLIC.from_pretrained.__func__ is huggingface_hub.ModelHubMixin.from_pretrained.__func__


def test_round_trip(small_model, folder):
    assert sorted(p.name for p in folder.iterdir()) == [
        "README.md", "config.json", "model.safetensors",
    ]  # fmt: skip
    model = FLIC.from_pretrained(folder)
    assert not model.training
    assert_same(small_model, model)
    assert json.loads((folder / "config.json").read_text()) == small_model.config.to_dict()
    assert "arxiv.org/abs/2310.16387" in (folder / "README.md").read_text()
    model.save_pretrained(folder)  # over what is there
    assert_same(FLIC.from_pretrained(str(folder)), small_model)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_folders_own_files_are_kept(small_model, tmp_path, name):
    (tmp_path / name).write_text("[]")
    with pytest.raises(flic.errors.ForeignFileError, match=f"{name}: .*overwrite=True"):
        small_model.save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "[]"
    small_model.save_pretrained(tmp_path, overwrite=True)
    assert_same(FLIC.from_pretrained(tmp_path), small_model)


def test_names_are_the_published_ones(small_model, folder):
    with flic_file(folder) as file:
        assert set(file.keys()) == set(torch.nn.Module.state_dict(small_model))
        assert file.metadata()["fingerprint"] == checkpoint.fingerprint(small_model)


def flic_file(folder):
    from safetensors import safe_open

    return safe_open(folder / "model.safetensors", framework="pt")


def test_after_update_and_from_every_kind_of_configuration(tmp_path):
    for i, config in enumerate((SMALL, flic.Config(**SMALL))):
        model = fill(FLIC(config))
        model.update()
        assert model.entropy_bottleneck._quantized_cdf.numel()
        model.save_pretrained(tmp_path / str(i))
        assert_same(FLIC.from_pretrained(tmp_path / str(i)), model)


def test_a_folder_without_configuration(small_model, folder):
    (folder / "config.json").unlink()
    assert_same(FLIC.from_pretrained(folder), small_model)


def test_it_is_a_model_file_too(small_model, folder):
    model = flic.load_model(folder / "model.safetensors")
    assert_same(model, small_model)
    compact = folder.with_name("compact")
    compact.mkdir()
    checkpoint.save(small_model, compact / "model.safetensors", compact=True)
    assert_same(FLIC.from_pretrained(compact), small_model)


def test_wrong_weights_are_refused(folder):
    with pytest.raises(TypeError, match="confg"):
        FLIC.from_pretrained(folder, confg=SMALL)
    (folder / "config.json").write_text(json.dumps(SMALL | {"depth": 3}))
    with pytest.raises(flic.CheckpointError, match="not a state dict of this model"):
        FLIC.from_pretrained(folder)
    (folder / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(flic.CheckpointError, match="not a safetensors file"):
        FLIC.from_pretrained(folder)


def test_a_repository_is_downloaded(small_model, folder, monkeypatch):
    """What is no folder goes to hf_hub_download, with the options given."""
    asked = []

    def download(repo_id, filename, **options):
        asked.append((repo_id, filename, options["revision"], options["local_files_only"]))
        return str(folder / filename)

    monkeypatch.setattr("flic.model.hub.hf_hub_download", download)
    monkeypatch.setattr(
        "huggingface_hub.hub_mixin.hf_hub_download",
        lambda *args, **options: download(*args, **options),
    )
    model = FLIC.from_pretrained("some/model", revision="v1", local_files_only=True)
    assert_same(model, small_model)
    assert asked == [("some/model", name, "v1", True) for name in (
        "config.json", "model.safetensors",
    )]  # fmt: skip


def load_again(name: str):
    """A second copy of a module of flic."""
    spec = importlib.util.find_spec(f"flic.model.{name}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_without_huggingface_hub(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.setitem(sys.modules, "flic.model.hub", load_again("hub"))
    model = load_again("network").FLIC(SMALL)
    assert list(model.state_dict()) == list(FLIC(SMALL).state_dict())
    for call in (
        lambda: model.save_pretrained(tmp_path),
        lambda: model.push_to_hub("some/model"),
        lambda: type(model).from_pretrained(tmp_path),
    ):
        with pytest.raises(ImportError, match=r"pip install 'flic-kernels\[hub\]'"):
            call()
    assert list(tmp_path.iterdir()) == []
