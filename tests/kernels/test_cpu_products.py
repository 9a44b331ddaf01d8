"""The C++ products at every edge: sizes around the register tiles, sides of images, bfloat16 by
every instruction, rows that lie apart."""

from __future__ import annotations

import math

import pytest
import torch
from operation_checks import error, forward_error

import flic_kernels
from flic_kernels import native
from flic_kernels.ops import OPERATIONS
from flic_kernels.ops.conv3x3 import _case as convolution
from flic_kernels.ops.fused_linear import _case as linear

WAYS = [(isa, None) for isa in native.available_isas()]
WAYS += [(WAYS[-1][0], name) for name in native.available_bfloat16_isas()[:-1]]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@pytest.fixture(params=WAYS, ids=lambda way: "-".join(filter(None, way)))
def way(request):
    """Every instruction set, and with the best one every way to multiply bfloat16."""
    isa, bfloat16 = request.param
    with native.use_isa(isa), native.use_bfloat16_isa(bfloat16):
        yield request.param


@pytest.fixture(params=DTYPES)
def dtype(request, way):
    if request.param == "float32" and way[1] is not None:
        pytest.skip("concerns bfloat16 only")
    return DTYPES[request.param]


def draw(case, dtype):
    return case.make(torch.Generator().manual_seed(5), dtype)


def check(name, case, dtype):
    operation = OPERATIONS[name]

    def compute(**arguments):
        return getattr(flic_kernels, name)(**arguments, impl="cpu")

    found = forward_error(operation, compute, draw(case, dtype))
    assert found < operation.tolerances[dtype], case.name


def test_products_of_every_size(dtype, poisoned):
    for rows in (1, 5, 13, 49):
        for inputs in (1, 17, 32, 75):
            for outputs in (1, 16, 47, 80, 130):
                name = f"{rows}x{inputs}x{outputs}"
                check("fused_linear", linear(name, (rows,), inputs, outputs, 1, "bias"), dtype)


def test_epilogues_with_ragged_ends(dtype, poisoned):
    for parts in ("gelu", "residual", "bias gelu residual", "norm bias"):
        check("fused_linear", linear(parts, (200,), 40, 50, 1, parts), dtype)


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_images_of_every_size(dtype, stride, poisoned):
    for height, width in ((1, 1), (1, 4), (2, 1), (3, 2), (5, 51), (2, 130)):
        for channels in (3, 24):
            shape, name = (2, height, width, channels), f"{height}x{width}x{channels}"
            case = convolution(name, shape, 20, "bias leaky residual", stride=stride)
            check("conv3x3", case, dtype)


def test_odd_channels_and_larger_shuffles(dtype, poisoned):
    check("conv3x3", convolution("odd", (1, 4, 7, 33), 35, "bias"), dtype)
    check("conv3x3", convolution("three", (1, 3, 4, 16), 9 * 16, "leaky", shuffle=3), dtype)
    check("conv3x3", convolution("ragged", (1, 3, 4, 16), 4 * 5, "residual", shuffle=2), dtype)


def test_a_pixel_reaches_its_neighbours_only(dtype):
    """Products take several channels at a time, and must not look at others' pixels for them."""
    arguments = draw(convolution("", (1, 6, 40, 24), 16, "bias"), dtype)
    arguments["x"][0, 2, 20] = math.nan
    out = flic_kernels.conv3x3(**arguments, impl="cpu")
    expected = torch.zeros(6, 40, dtype=torch.bool)
    expected[1:4, 19:22] = True
    assert torch.equal(out.isnan().all(-1)[0], expected)
    assert torch.equal(out.isnan().any(-1)[0], expected)


def test_gelu_is_close_everywhere(way):
    x = torch.linspace(-12, 12, 20001).unsqueeze(1)
    out = flic_kernels.fused_linear(x, torch.ones(1, 1), gelu=True, impl="cpu")
    expected = torch.nn.functional.gelu(x.double())
    assert ((out - expected).abs() / x.abs().clamp_min(1)).max() < 5e-7


def test_rows_that_lie_apart_are_not_copied(dtype, monkeypatch):
    x = torch.randn(2, 6, 10, 24, generator=torch.Generator().manual_seed(0)).to(dtype)
    weight = torch.randn(32, 24, generator=torch.Generator().manual_seed(1)).to(dtype)
    some = x[:, ::2, ::2]
    expected = flic_kernels.fused_linear(some.clone(), weight, impl="cpu")
    with monkeypatch.context() as patched:
        plain = torch.Tensor.contiguous

        def contiguous(self):
            assert self.shape != some.shape, "copied"
            return plain(self)

        patched.setattr(torch.Tensor, "contiguous", contiguous)
        assert torch.equal(flic_kernels.fused_linear(some, weight, impl="cpu"), expected)
    swapped = x.permute(2, 0, 1, 3)  # three levels
    expected = flic_kernels.fused_linear(swapped.contiguous(), weight, impl="cpu")
    assert torch.equal(flic_kernels.fused_linear(swapped, weight, impl="cpu"), expected)


@pytest.mark.parametrize("name", ["conv3x3", "fused_linear", "gdn", "positional_encoding"])
def test_threads_change_no_bit_of_bfloat16(name, way):
    arguments = draw(OPERATIONS[name].cases[0], torch.bfloat16)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(getattr(flic_kernels, name)(**arguments, impl="cpu"))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(results[0], other) for other in results[1:])


def test_long_sums_of_gradients(poisoned):
    """More rows than a partial sum takes at a time, and no multiple of that number."""
    operation = OPERATIONS["fused_linear"]
    arguments = draw(linear("", (4700,), 20, 24, 1, "bias"), torch.float32)
    leaves = [arguments[name].requires_grad_() for name in ("x", "weight", "bias")]
    wide = {name: arguments[name].detach().double().requires_grad_() for name in arguments
            if isinstance(arguments[name], torch.Tensor)}  # fmt: skip
    found = torch.autograd.grad(
        flic_kernels.fused_linear(**arguments, impl="cpu").square().sum(), leaves
    )
    expected = torch.autograd.grad(
        operation.reference(**arguments | wide).square().sum(),
        [wide[name] for name in ("x", "weight", "bias")],
    )
    for got, want in zip(found, expected, strict=True):
        assert error([got], [want]) < operation.tolerances[torch.float32]


def test_no_rows():
    x, weight = torch.zeros(0, 20, requires_grad=True), torch.ones(16, 20, requires_grad=True)
    out = flic_kernels.fused_linear(x, weight, gelu=True, impl="cpu")
    assert out.shape == (0, 16)
    dx, dweight = torch.autograd.grad(out.sum(), [x, weight])
    assert dx.shape == x.shape and not dweight.any()
    gamma, beta = torch.ones(20, 20, requires_grad=True), torch.ones(20, requires_grad=True)
    out = flic_kernels.gdn(x, gamma, beta, impl="cpu")
    assert not any(g.any() for g in torch.autograd.grad(out.sum(), [gamma, beta]))


def test_wrong_names_of_bfloat16_instructions():
    with pytest.raises(ValueError, match="one of widened, avx512_bf16, amx"):
        with native.use_bfloat16_isa("fast"):
            pass
    assert native.bfloat16_isa() == native.available_bfloat16_isas()[-1]
    with native.use_isa("scalar"):
        assert native.bfloat16_isa() == "widened"


WRONG = [
    ({"x": torch.zeros(6, 5, 32)}, r"\[B, H, W, C\]"),
    ({"x": torch.zeros(1, 0, 5, 32)}, "with pixels and channels"),
    ({"weight": torch.zeros(64, 32, 1, 1)}, r"\[N, 32, 3, 3\]"),
    ({"bias": torch.zeros(63)}, r"bias must be \[64\]"),
    ({"stride": 0}, "stride"),
    ({"shuffle": 3}, "shuffled by 3"),
    ({"gamma": torch.zeros(64, 64)}, "come together"),
    ({"gamma": torch.zeros(64, 64), "beta": torch.zeros(64)}, "without a shuffle"),
    ({"residual": torch.zeros(1, 6, 5, 64)}, r"residual must be \[1, 12, 10, 16\]"),
]


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_wrong_shapes_of_convolutions(change, message):
    case = next(c for c in OPERATIONS["conv3x3"].cases if c.name == "shuffle")
    with pytest.raises(ValueError, match=message):
        flic_kernels.conv3x3(**draw(case, torch.float32) | change)
