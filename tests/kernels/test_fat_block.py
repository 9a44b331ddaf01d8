"""The C++ FAT block in one call, without gradients: tiles, bands, instruction sets, threads."""

from __future__ import annotations

import pytest
import torch
from operation_checks import error

import flic_kernels
from flic_kernels import NotAvailable, native
from flic_kernels.ops.fat_block import FAT_BLOCK, _case

HYPER, IMAGE = (2, 4), (8, 16)  # attention window s, modulation window P
# Batch, height, width: tall ones go through in bands, which wrap around at both ends.
SHAPES = {
    "plain": ((2, 32, 48), 12, 4, IMAGE, False),
    "shifted": ((2, 32, 16), 12, 4, IMAGE, True),
    "shifted-bands": ((1, 624, 16), 6, 4, IMAGE, True),
    "shifted-bands-batch": ((2, 336, 32), 8, 4, IMAGE, True),
    "hyper-bands": ((1, 1100, 8), 8, 4, HYPER, True),
    "hyper-plain": ((3, 20, 36), 8, 4, HYPER, False),
    "narrow-windows-wide-modulation": ((1, 32, 32), 8, 4, (2, 16), True),
    "wide-windows-narrow-modulation": ((1, 32, 16), 8, 4, (8, 4), False),
}


def arguments(name, dtype=torch.float32):
    case = _case(name, *SHAPES[name])
    return case.make(torch.Generator().manual_seed(5), dtype)


def compute(given):
    with torch.no_grad():
        return flic_kernels.fat_block(**given, impl="cpu")


def expected(given):
    wide = {name: value for name, value in given.items() if name not in ("x", "parameters")}
    with torch.no_grad():
        return FAT_BLOCK.reference(
            given["x"].double(), [t.double() for t in given["parameters"]], **wide
        )


@pytest.mark.parametrize("name", SHAPES)
def test_agrees_with_float64(name, one_thread, poisoned):
    given = arguments(name)
    wanted = expected(given)
    assert error([compute(given)], [wanted]) < FAT_BLOCK.tolerances[torch.float32]
    narrow = given | {"x": given["x"].bfloat16()}
    out = compute(narrow)
    assert out.dtype == torch.bfloat16
    assert error([out], [wanted]) < FAT_BLOCK.tolerances[torch.bfloat16]


@pytest.mark.parametrize("isa", native.available_isas())
@pytest.mark.parametrize("name", ["shifted", "hyper-plain", "narrow-windows-wide-modulation"])
def test_every_instruction_set(name, isa, one_thread):
    given = arguments(name)
    with native.use_isa(isa):
        for dtype in (torch.float32, torch.bfloat16):
            out = compute(given | {"x": given["x"].to(dtype)})
            assert error([out], [expected(given)]) < FAT_BLOCK.tolerances[dtype]


@pytest.mark.parametrize("name", ["plain", "shifted-bands-batch", "hyper-bands"])
def test_threads_change_no_bit(name):
    given, before = arguments(name), torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(compute(given))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(results[0], other) for other in results[1:])


def test_what_it_does_not_take():
    given = _case("odd", (1, 96, 96), 8, 4, (2, 6), False).make(torch.Generator(), torch.float32)
    with pytest.raises(NotAvailable, match="modulation windows of 2, 4, 8 and 16"):
        compute(given)
    with pytest.raises(NotAvailable, match="float64"):
        compute(arguments("shifted", torch.float64))
    with pytest.raises(ValueError, match="twenty|20 parameters"):
        flic_kernels.fat_block(given["x"], given["parameters"][:3], num_heads=4, window=2)
    with pytest.raises(ValueError, match="proj_bias must be"):
        wrong = list(given["parameters"])
        wrong[10] = torch.zeros(3)
        flic_kernels.fat_block(given["x"], wrong, num_heads=4, window=2)
