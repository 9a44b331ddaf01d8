"""What only the C++ kernels have: instruction sets, threads, operators, types they refuse."""

from __future__ import annotations

import pytest
import torch
from operation_checks import check_operators, convert, error, gradient_errors, tensors_of
from processes import in_python

import flic_kernels
from flic_kernels import NotAvailable, native
from flic_kernels.ops import OPERATIONS

ON_CPU = [name for name, op in OPERATIONS.items() if "cpu" in op.implementations]
COMPOSED = ("fat_block",)  # its gradients are those of other operations
WITH_GRADIENTS = [name for name in ON_CPU if name not in COMPOSED]
GRADIENTS_BY_TORCH = ("conv3x3", "positional_encoding")  # which says nothing about threads
SHORT = {torch.float32: "float32", torch.bfloat16: "bfloat16"}


def draw(operation, dtype=torch.float32, case=None):
    return (case or operation.lightest).make(torch.Generator().manual_seed(3), dtype)


def on_cpu(operation):
    function = getattr(flic_kernels, operation.name)
    return lambda **arguments: function(**arguments, impl="cpu")


def cases_by_isa():
    for name in ON_CPU:
        for isa in native.available_isas()[:-1]:  # test_ops has the best one
            for case in OPERATIONS[name].cases:
                for dtype in SHORT:
                    label = f"{name}-{isa}-{case.name}-{SHORT[dtype]}"
                    yield pytest.param(OPERATIONS[name], isa, case, dtype, id=label)


@pytest.mark.parametrize(("operation", "isa", "case", "dtype"), list(cases_by_isa()))
def test_every_instruction_set(operation, isa, case, dtype, poisoned):
    with native.use_isa(isa):
        errors = gradient_errors(operation, on_cpu(operation), draw(operation, dtype, case))
    limit = operation.tolerances[dtype]
    assert max(errors.values()) < limit, {k: f"{v:.1e}" for k, v in errors.items()}


def result_and_gradients(operation, arguments):
    if operation.name in COMPOSED:
        with torch.no_grad():
            return [on_cpu(operation)(**arguments)]
    given = convert(arguments, lambda t: t.detach().clone().requires_grad_())
    out = on_cpu(operation)(**given)
    leaves = [t for n in operation.differentiable for t in tensors_of(given[n])]
    return [out, *torch.autograd.grad(out.square().sum(), leaves)]


@pytest.fixture
def restore_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", ON_CPU)
def test_threads_change_no_bit(name, restore_threads):
    operation = OPERATIONS[name]
    for case in operation.cases:
        arguments = draw(operation, case=case)
        results = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(result_and_gradients(operation, arguments))
        same = 1 if name in GRADIENTS_BY_TORCH else len(results[0])
        for other in results[1:]:
            assert all(map(torch.equal, results[0][:same], other[:same])), case.name


@pytest.mark.parametrize("name", WITH_GRADIENTS)
def test_strided_inputs_and_gradients(name):
    operation = OPERATIONS[name]

    def strided(t):
        return t.transpose(0, -1).contiguous().transpose(0, -1) if t.dim() > 1 else t

    given = draw(operation, case=operation.cases[0])
    expected = operation.reference(**convert(given, lambda t: t.double()))
    given = convert(given, lambda t: strided(t).requires_grad_())
    leaves = [t for n in operation.differentiable for t in tensors_of(given[n])]
    assert any(not t.is_contiguous() for t in leaves)
    out = on_cpu(operation)(**given)
    assert error([out], [expected]) < operation.tolerances[torch.float32]
    grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    found = torch.autograd.grad(out, leaves, strided(grad), retain_graph=True)
    dense = torch.autograd.grad(out, leaves, grad)
    assert all(map(torch.equal, found, dense))


@pytest.mark.parametrize("name", ON_CPU)
def test_operators_pass_opcheck(name):
    operation = OPERATIONS[name]
    check_operators(operation, on_cpu(operation), draw(operation), name in WITH_GRADIENTS)


@pytest.mark.parametrize("name", ON_CPU)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_other_types_are_refused_or_left_to_the_reference(name, dtype):
    operation = OPERATIONS[name]
    arguments = draw(operation, dtype)
    with pytest.raises(NotAvailable, match=f"float32 and bfloat16, not {dtype}"):
        on_cpu(operation)(**arguments)
    out = getattr(flic_kernels, name)(**arguments)
    assert torch.equal(out, operation.reference(**arguments))


@pytest.mark.parametrize("name", ON_CPU)
def test_other_devices_are_refused(name):
    operation = OPERATIONS[name]
    with pytest.raises(NotAvailable, match="need CPU tensors, not meta ones"):
        on_cpu(operation)(**convert(draw(operation), lambda t: t.to("meta")))


def test_without_the_native_library_they_say_so():
    program = f"""
from pathlib import Path
from flic_kernels import NotAvailable, native
native._FOLDER = Path("no such folder")
from flic_kernels.ops import OPERATIONS
for name in {ON_CPU!r}:
    try:
        OPERATIONS[name].implementations["cpu"].load()
    except NotAvailable as reason:
        assert "libflic_kernels.so is not built" in str(reason), reason
    else:
        raise SystemExit(f"{{name}} loaded")
"""
    in_python(program)


def test_modulation_of_other_sizes_is_refused():
    x, weight = torch.zeros(1, 32, 32, 4), torch.zeros(32, 17, 4, 2)
    with pytest.raises(NotAvailable, match="2, 4, 8 or 16"):
        flic_kernels.frequency_modulation(x, weight)


@pytest.mark.parametrize(("dim", "window"), [(40, 4), (17, 2), (3, 16)])
def test_attention_with_many_dimensions_and_large_windows(dim, window):
    from flic_kernels.ops.window_attention import _case

    operation = OPERATIONS["window_attention"]
    case = _case("", (2, 2 * window, 4 * window), dim, 4, window, True)
    errors = gradient_errors(operation, on_cpu(operation), draw(operation, case=case))
    assert max(errors.values()) < operation.tolerances[torch.float32]


@pytest.mark.parametrize("size", [2, 8])
def test_modulation_of_small_windows(size):
    from flic_kernels.ops.frequency_modulation import _case

    operation = OPERATIONS["frequency_modulation"]
    case = _case("", (3, 16, 24, 21), size, True)
    errors = gradient_errors(operation, on_cpu(operation), draw(operation, case=case))
    assert max(errors.values()) < operation.tolerances[torch.float32]


def test_modulation_of_types_that_differ():
    """As under autocast: products in bfloat16, the residual in float32."""
    operation = OPERATIONS["frequency_modulation"]
    arguments = draw(operation, case=operation.cases[1])
    for narrow in ("x", "residual"):
        given = arguments | {narrow: arguments[narrow].bfloat16()}
        errors = gradient_errors(operation, on_cpu(operation), given)
        assert max(errors.values()) < operation.tolerances[torch.bfloat16]
        assert on_cpu(operation)(**given).dtype == torch.float32
