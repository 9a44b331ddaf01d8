"""What codes on which device, and what is said where a part is not built."""

import warnings
from types import SimpleNamespace

import pytest
import torch
from golden_model import SMALL, fill, small_model
from processes import in_python

from flic import FLIC
from flic.coding import entropy, entropy_engine, model_engine
from flic_kernels import backends, native
from flic_kernels.exact import ExactEngine
from flic_kernels.ops import OPERATIONS


def not_built(name):
    def library():
        raise native.NativeLibraryMissing(f"the native library {name} is not built")

    return library


@pytest.fixture
def model_on_cuda(monkeypatch):
    """A fresh model that says it is on the second CUDA device."""
    monkeypatch.setattr(model_engine, "_device_of", lambda model: torch.device("cuda", 1))
    model_engine._warn_once.cache_clear()
    yield fill(FLIC(SMALL))
    model_engine._warn_once.cache_clear()


def test_without_the_cuda_part_the_cpu_codes_and_one_warning_says_so(model_on_cuda, monkeypatch):
    monkeypatch.setattr(native, "cuda_library", not_built("cuda.so"))
    latents = small_model().analyze(torch.rand(1, 3, 128, 128))
    with pytest.warns(RuntimeWarning, match="CPU codes for a model on a CUDA.*cuda.so is not"):
        streams = entropy.encode(model_on_cuda, latents)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decoded, _ = entropy.decode(model_on_cuda, streams, (128, 128))
        model_engine.engine_of(fill(FLIC(SMALL)))  # another model
    assert model_engine.engine_of(model_on_cuda).networks.isa == native.isa()
    monkeypatch.undo()
    assert streams == entropy.encode(small_model(), latents)
    assert torch.equal(decoded.y, latents.y)


def test_where_the_cuda_part_is_built_it_codes(model_on_cuda, monkeypatch):
    asked = []

    def fake_engine(state_dict, **options):
        asked.append(options)
        return ExactEngine(state_dict, threads=1)

    monkeypatch.setattr(native, "cuda_library", lambda: None)
    monkeypatch.setattr(entropy_engine, "ExactEngine", fake_engine)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model_engine.engine_of(model_on_cuda)
        model_engine.engine_of(model_on_cuda)
        monkeypatch.setattr(model_engine, "_device_of", lambda model: torch.device("cuda", 0))
        model_engine.engine_of(model_on_cuda)
    assert [(o["isa"], o["device"]) for o in asked] == [("cuda", 1), ("cuda", 0)]


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is there")
def test_the_cuda_engine_needs_a_device(monkeypatch):
    library = SimpleNamespace(flic_exact_cuda_error=SimpleNamespace())
    monkeypatch.setattr(native, "cuda_library", lambda: library)
    with pytest.raises(RuntimeError, match="no CUDA device is available"):
        ExactEngine(small_model().state_dict(), isa="cuda")


def test_backends_list_the_entropy_parts(monkeypatch):
    monkeypatch.setattr(native, "cuda_library", not_built("cuda.so"))
    table = backends()
    assert table.keys() == OPERATIONS.keys() | {"exact_engine", "rans"}
    for names in table.values():
        assert names.keys() == {"cpu", "cuda"}
        assert all(isinstance(name, str) for name in names.values())
    for isa in native.available_isas():
        with native.use_isa(isa):
            table = backends()
        assert table["exact_engine"] == {"cpu": isa, "cuda": f"cpu {isa} (CUDA part not built)"}
        assert table["rans"] == {"cpu": isa, "cuda": "none (CUDA part not built)"}
    monkeypatch.setattr(native, "cuda_library", lambda: None)
    table = backends()
    assert table["exact_engine"]["cuda"] == table["rans"]["cuda"] == "cuda"


def test_backends_and_import_without_the_native_library():
    program = """
from pathlib import Path
from flic_kernels import native
native._FOLDER = Path("no such folder")
import flic_kernels, flic_kernels.exact, flic_kernels.rans
table = flic_kernels.backends()
print(table["rans"]["cpu"], table["exact_engine"]["cuda"], sep="|")
"""
    assert in_python(program) == "none (native library not built)|none (CUDA part not built)\n"
