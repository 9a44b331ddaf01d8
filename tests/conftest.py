"""Options and fixtures shared by the tests."""

import os
from pathlib import Path

import pytest
import torch

# Without a GPU the Triton kernels run in Triton's interpreter. It must be chosen before anything
# imports Triton, whose own library functions are bound to one mode then.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")


def pytest_addoption(parser):
    parser.addoption(
        "--photos",
        metavar="DIR",
        type=Path,
        help="folder of photographs with eval/ and examples/ in it; tests on them skip without",
    )


@pytest.fixture(scope="session")
def photos(request) -> Path:
    """The folder given by --photos; skips the test where none is given."""
    folder = request.config.getoption("--photos")
    if folder is None:
        pytest.skip("needs --photos DIR")
    if not folder.is_dir():
        pytest.fail(f"--photos {folder}: no such folder")
    return folder


@pytest.fixture(scope="session")
def small_model():
    """An untrained model of 0.15 M parameters whose latents are not all zero."""
    import torch

    from flic import FLIC, Config

    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = FLIC(
            Config(
                widths=(8, 8, 8), heads=(4, 4, 4), latent=16, hyper=8, slices=2, ratio=2, depth=1
            )
        ).eval()
    with torch.no_grad():
        model.g_a[9].weight.mul_(20)
        model.h_a[3].weight.mul_(20)
    return model


@pytest.fixture(scope="session")
def model_folder(small_model, tmp_path_factory) -> Path:
    """A folder that holds `small_model` as small.safetensors."""
    from flic.model import checkpoint

    folder = tmp_path_factory.mktemp("models")
    checkpoint.save(small_model, folder / "small.safetensors", **{"lambda": "0.01"})
    return folder


@pytest.fixture(scope="module")
def one_thread():
    """One torch thread: small models gain nothing from more, and lose much on a busy machine."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def known_models(model_folder, monkeypatch):
    """`small` is the built-in default; the user's own model folder plays no part.

    In this process alone, so one core is seen: folders then go without worker processes.
    """
    from flic.model import library

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
    (model_folder / "retired.json").write_text("{}")
    monkeypatch.setattr(library, "WEIGHTS", model_folder)
    monkeypatch.setattr(library, "DEFAULT", "small")
    monkeypatch.setattr(library, "default_folder", lambda: model_folder / "none")


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """An empty current folder with picture.png in it."""
    from cli_tools import png

    monkeypatch.chdir(tmp_path)
    (tmp_path / "picture.png").write_bytes(png())
    return tmp_path


@pytest.fixture
def poisoned(monkeypatch):
    """Fresh memory is full of NaN, so that an element nobody writes shows."""
    plain = torch.Tensor.new_empty

    def new_empty(self, *arguments, **options):
        fresh = plain(self, *arguments, **options)
        return fresh.fill_(float("nan")) if fresh.is_floating_point() else fresh

    monkeypatch.setattr(torch.Tensor, "new_empty", new_empty)


@pytest.fixture
def outside_xdist(monkeypatch):
    """In a worker of pytest-xdist pytest-benchmark times nothing, nor do its child processes."""
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
