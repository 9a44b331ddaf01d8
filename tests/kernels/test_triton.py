"""What only Triton kernels have: operators, work split among programs, compilation."""

from __future__ import annotations

import pytest
import torch
from operation_checks import check_operators, convert, gradient_errors
from processes import in_python, python

import flic_kernels
from flic_kernels import NotAvailable
from flic_kernels.ops import OPERATIONS

pytest.importorskip("triton")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
WITH_TRITON = [name for name, op in OPERATIONS.items() if "triton" in op.implementations]


def draw(operation, dtype=torch.float32, case=None):
    arguments = (case or operation.lightest).make(torch.Generator().manual_seed(3), dtype)
    return convert(arguments, lambda t: t.to(DEVICE))


def triton_function(operation):
    function = getattr(flic_kernels, operation.name)
    return lambda **arguments: function(**arguments, impl="triton")


@pytest.mark.parametrize("name", WITH_TRITON)
def test_operators_pass_opcheck(name):
    operation = OPERATIONS[name]
    check_operators(operation, triton_function(operation), draw(operation))


@pytest.mark.parametrize("name", ["hyper-shifted", "window4-shifted-dim5"])
def test_programs_with_several_groups_of_windows(name, monkeypatch):
    """Large inputs give each program a run of windows; here the wish for few programs does."""
    from flic_kernels.triton import windows

    monkeypatch.setattr(windows, "PROGRAMS_WANTED", 2)
    operation = OPERATIONS["window_attention"]
    case = next(c for c in operation.cases if c.name == name)
    errors = gradient_errors(operation, triton_function(operation), draw(operation, case=case))
    assert max(errors.values()) < operation.tolerances[torch.float32]


def test_chunks_of_several_tiles(monkeypatch):
    from flic_kernels.triton import frequency_modulation

    monkeypatch.setattr(frequency_modulation, "PROGRAMS_WANTED", 2)
    operation = OPERATIONS["frequency_modulation"]
    errors = gradient_errors(
        operation, triton_function(operation), draw(operation, case=operation.cases[1])
    )
    assert max(errors.values()) < operation.tolerances[torch.float32]


@pytest.mark.parametrize("name", WITH_TRITON)
def test_float64_is_refused(name):
    operation = OPERATIONS[name]
    with pytest.raises(NotAvailable, match="float64"):
        triton_function(operation)(**draw(operation, torch.float64))


def test_what_kernels_cannot_do_is_refused():
    tables = [torch.zeros((2 * h - 1) * (2 * w - 1), 1) for h, w in
              ((32, 32), (8, 8), (8, 32), (32, 8))]  # fmt: skip
    qkv = torch.zeros(1, 32, 32, 12, device=DEVICE)
    with pytest.raises(NotAvailable, match="up to 16x16"):
        flic_kernels.window_attention(qkv, tables, num_heads=4, window=16, impl="triton")
    x, weight = torch.zeros(1, 32, 32, 4), torch.zeros(32, 17, 4, 2)
    with pytest.raises(NotAvailable, match="2, 4, 8 or 16"):
        flic_kernels.frequency_modulation(x, weight, impl="triton")
    q = torch.zeros(1, 128, 16)
    with pytest.raises(NotAvailable, match="64 positions"):
        flic_kernels.slice_attention(q, q, q, slices=2, heads=2, impl="triton")


@pytest.mark.skipif(torch.cuda.is_available(), reason="the kernels take CUDA tensors here")
def test_cpu_tensors_are_refused_outside_the_interpreter():
    program = """
import torch, flic_kernels
q = torch.zeros(1, 16, 8)
try:
    flic_kernels.slice_attention(q, q, q, slices=2, heads=2, impl="triton")
except flic_kernels.NotAvailable as reason:
    assert "need CUDA tensors" in str(reason)
else:
    raise SystemExit("ran")
"""
    in_python(program, TRITON_INTERPRET=None)


def compiles(*options: str) -> None:
    """`python -m benches aot` finds no spilled register, and shared memory within the limit."""
    result = python("-m", "benches", "aot", *options, TRITON_INTERPRET=None)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "0 over a limit" in result.stdout


def test_kernels_compile_for_hopper():
    """Every kernel in bfloat16."""
    compiles("--subset", "--targets", "90")


def test_wide_heads_do_not_spill():
    """One kernel that once did, in each dtype; `make aot` compiles all."""
    compiles("--only", "heads of 64 tiled_kernel 64", "--targets", "80")


def test_convolutions_in_full_float32_and_the_setting_is_given_back(monkeypatch):
    """cuDNN's default is TF32, far from float32's tolerance; forward and backward say otherwise."""
    from flic_kernels.triton import conv3x3

    settings, seen = torch.backends.cudnn.conv, []
    before = settings.fp32_precision
    convolve = torch.ops.aten.convolution_backward

    def watched(function):
        def call(*arguments, **options):
            seen.append(settings.fp32_precision)
            return function(*arguments, **options)

        return call

    monkeypatch.setattr(conv3x3.F, "conv2d", watched(conv3x3.F.conv2d))
    monkeypatch.setattr(torch.ops.aten, "convolution_backward", watched(convolve))
    given = convert(draw(OPERATIONS["conv3x3"]), lambda t: t.requires_grad_())
    triton_function(OPERATIONS["conv3x3"])(**given).sum().backward()
    assert seen == ["ieee", "ieee"] and settings.fp32_precision == before
