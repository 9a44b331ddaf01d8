"""torch.export of g_a and g_s: the operators in place, the program equal to the eager model."""

import io
from collections import Counter

import pytest
import torch
from golden_model import SMALL, small_model
from processes import in_python
from torch import Tensor
from torch.export import ExportedProgram

import flic_kernels
from flic.export import export, load
from flic.model.layers import FATBlock

pytestmark = pytest.mark.usefixtures("one_thread")
NAMES = ("g_a", "g_s")
WITH_ATTENTION = ("window_attention", "fat_block")


def example(name: str, batch: int = 1, rows: int = 1, columns: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    channels, step = {"g_a": (3, 128), "g_s": (SMALL["latent"], 8)}[name]
    return torch.randn(batch, channels, step * rows, step * columns, generator=generator)


def assert_operators_in_place(program: ExportedProgram, name: str) -> None:
    """One operator with the attention for each FAT block, and nothing of it outside of them."""
    blocks = sum(isinstance(module, FATBlock) for module in getattr(small_model(), name))
    assert blocks == 6
    called = Counter(str(n.target) for n in program.graph.nodes if n.op == "call_function")
    operators = {target for target in called if target.startswith("flic_kernels.")}
    attention = [t for t in operators if t.removeprefix("flic_kernels.").startswith(WITH_ATTENTION)]
    assert len(attention) == 1 and called[attention[0]] == blocks, called
    assert not [target for target in called if "softmax" in target or "roll" in target]


@pytest.fixture(scope="module", params=NAMES)
def exported(request) -> tuple[str, ExportedProgram]:
    batch, _, *sides = example(request.param).shape
    return request.param, export(small_model(), request.param, (batch, *sides))


@torch.no_grad()
def test_equals_the_eager_model_also_saved_and_loaded(exported):
    name, program = exported
    x = example(name)
    eager = getattr(small_model(), name)(x)
    assert eager.unique().numel() > 100
    assert torch.equal(program.module()(x), eager)
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    assert torch.equal(load(file).module()(x), eager)


def test_operators_of_this_machine_are_in_place(exported):
    name, program = exported
    assert_operators_in_place(program, name)


def test_operators_of_a_gpu_are_in_place():
    """Captured only: Triton's kernels would run in its interpreter here."""
    pytest.importorskip("triton")
    with flic_kernels.use("triton"):
        program = export(small_model(), "g_s")
    assert_operators_in_place(program, "g_s")
    (x,) = (n.meta["val"] for n in program.graph.nodes if n.name == "x")
    assert [isinstance(side, torch.SymInt) for side in x.shape] == [True, False, True, True]


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_any_size(name):
    program, transform = export(small_model(), name).module(), getattr(small_model(), name)
    for size in ((1, 1, 1), (3, 1, 2)):
        x = example(name, *size)
        assert torch.equal(program(x), transform(x))


@torch.no_grad()
def test_a_new_process_knows_the_operators_from_load_alone(tmp_path):
    x = example("g_s")
    torch.export.save(export(small_model(), "g_s"), tmp_path / "program.pt2")
    torch.save(x, tmp_path / "x.pt")
    code = (
        "import torch; from flic.export import load; "
        "torch.save(load('program.pt2').module()(torch.load('x.pt')), 'out.pt')"
    )
    in_python(code, cwd=tmp_path, OMP_NUM_THREADS="1")
    assert torch.equal(torch.load(tmp_path / "out.pt"), small_model().g_s(x))


def test_refused():
    with pytest.raises(ValueError, match="g_a and g_s can be exported, not 'h_a'"):
        export(small_model(), "h_a")
    with pytest.raises(ValueError, match="multiples of 128, not 128x100"):
        export(small_model(), "g_a", (1, 128, 100))
