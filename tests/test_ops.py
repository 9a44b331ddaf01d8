"""Every operation of the registry: implementations against references, and their manners."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from operation_checks import convert, error, forward_error, gradient_errors, tensors_of

import flic_kernels
from flic_kernels import NotAvailable, backends
from flic_kernels.ops import OPERATIONS

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
COMPOSED = ("fat_block", "conv3x3")  # in Triton: of operations that have cases of their own
SHORT = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}


def device_of(name):
    """Where an implementation is tested."""
    return "cpu" if name == "cpu" else DEVICE


def implementations(operation):
    """Names of the implementations that can run here, the reference first."""
    names = ["reference"]
    for name in operation.implementations:
        try:
            operation.choose(torch.device(device_of(name)), name)
        except NotAvailable:
            continue
        names.append(name)
    return names


def every_case(dtypes):
    """(operation, implementation, case, dtype); in the interpreter 16 bits only lightly."""
    for operation in OPERATIONS.values():
        for name in implementations(operation):
            for dtype in dtypes:
                cases = operation.cases
                interpreted = name == "triton" and DEVICE == "cpu"
                if interpreted and (dtype != torch.float32 or operation.name in COMPOSED):
                    cases = [operation.lightest]
                for case in cases:
                    label = f"{operation.name}-{name}-{case.name}-{SHORT[dtype]}"
                    yield pytest.param(operation, name, case, dtype, id=label)


def every_implementation():
    for operation in OPERATIONS.values():
        for name in implementations(operation):
            yield pytest.param(operation, name, id=f"{operation.name}-{name}")


def public(operation, name):
    """The public function, bound to one implementation."""
    function = getattr(flic_kernels, operation.name)
    return lambda **arguments: function(**arguments, impl=name)


def draw(name, case, dtype, seed=0):
    """The case's arguments where implementation `name` takes them."""
    arguments = case.make(torch.Generator().manual_seed(seed), dtype)
    return convert(arguments, lambda t: t.to(device_of(name)))


def supports(function, arguments):
    """Skip where an implementation refuses a dtype and says so."""
    try:
        function(**arguments)
    except NotAvailable as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize(("operation", "name", "case", "dtype"), list(every_case(DTYPES)))
def test_result_and_gradients(operation, name, case, dtype, poisoned):
    arguments = draw(name, case, dtype)
    function = public(operation, name)
    if dtype != torch.float32:
        supports(function, arguments)
    errors = gradient_errors(operation, function, arguments)
    assert set(errors) - {"out"}, "no gradient was checked"
    limit = operation.tolerances[dtype]
    assert max(errors.values()) < limit, {k: f"{v:.1e}" for k, v in errors.items()}


@pytest.mark.parametrize(("operation", "name"), list(every_implementation()))
def test_without_gradients_and_strided(operation, name, poisoned):
    arguments = draw(name, operation.lightest, torch.float32)

    def strided(t):
        return t.transpose(0, -1).contiguous().transpose(0, -1) if t.dim() > 1 else t

    given = convert(arguments, strided)
    assert any(not t.is_contiguous() for v in given.values() for t in tensors_of(v))
    with torch.no_grad():
        found = forward_error(operation, public(operation, name), given)
    assert found < operation.tolerances[torch.float32]


@pytest.mark.parametrize(("operation", "name"), list(every_implementation()))
def test_equal_inputs_give_equal_gradients(operation, name):
    def gradients():
        given = draw(name, operation.lightest, torch.float32)
        given = convert(given, lambda t: t.requires_grad_())
        out = public(operation, name)(**given)
        leaves = [t for n in operation.differentiable for t in tensors_of(given[n])]
        return torch.autograd.grad(out.square().sum(), leaves)

    for first, second in zip(gradients(), gradients(), strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize(("operation", "name"), list(every_implementation()))
def test_second_derivatives_are_right_or_refused(operation, name):
    """Of a gradient penalty, and of one gradient by one argument, on which torch's own decorator
    is silent."""
    given = draw(name, operation.lightest, torch.float32)
    exact = convert(given, lambda t: t.detach().double().requires_grad_())
    given = convert(given, lambda t: t.detach().requires_grad_())

    def penalty(function, arguments):
        leaves = [t for n in operation.differentiable for t in tensors_of(arguments[n])]
        first = torch.autograd.grad(function(**arguments).sum(), leaves, create_graph=True)
        loss = sum(g.square().sum() for g in first) + sum(t.square().sum() for t in leaves)
        return torch.autograd.grad(loss, leaves)

    if name == "reference":
        found = penalty(public(operation, name), given)
        assert error(found, penalty(operation.reference, exact)) < 1e-4
        return
    with pytest.raises(RuntimeError, match="can be differentiated once"):
        penalty(public(operation, name), given)


@pytest.mark.parametrize(("operation", "name"), list(every_implementation()))
def test_compiles_whole(operation, name):
    arguments = draw(name, operation.lightest, torch.float32)
    function = getattr(flic_kernels, operation.name)

    def call(**given):
        return function(**given, impl=name) * 2

    torch._dynamo.reset()
    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        assert error([compiled(**arguments)], [call(**arguments)]) < 1e-6
    errors = gradient_errors(operation, lambda **given: compiled(**given) / 2, arguments)
    assert max(errors.values()) < operation.tolerances[torch.float32]


@pytest.mark.parametrize(("operation", "name"), list(every_implementation()))
def test_autocast_keeps_what_it_is_given(operation, name):
    arguments = draw(name, operation.lightest, torch.float32)
    with torch.autocast(device_of(name), dtype=torch.bfloat16), torch.no_grad():
        out = public(operation, name)(**arguments)
    expected = operation.reference(**convert(arguments, lambda t: t.double()))
    assert error([out], [expected]) < operation.tolerances[torch.bfloat16]


@pytest.mark.parametrize(("operation", "name"), list(every_implementation()))
def test_an_empty_batch_gives_an_empty_batch(operation, name):
    given = draw(name, operation.lightest, torch.float32)
    batched = [key for key in ("x", "u", "qkv", "q", "k", "v", "residual") if key in given]
    given |= {key: given[key][:0] for key in batched if given[key] is not None}
    given = convert(given, lambda t: t.requires_grad_())
    out = public(operation, name)(**given)
    whole = operation.reference(**draw("reference", operation.lightest, torch.float32))
    assert out.shape == (0, *whole.shape[1:])
    leaves = [t for n in operation.differentiable for t in tensors_of(given[n])]
    gradients = torch.autograd.grad(out.sum(), leaves)
    assert not any(g.any() for g in gradients)


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_default_is_what_backends_says(operation):
    name, _, dtypes = backends()[operation.name][DEVICE].partition(" ")
    device = torch.device(DEVICE)
    chosen = operation.choose(device, None, torch.float32)
    assert chosen is operation.choose(device, name, torch.float32)
    if dtypes:
        assert dtypes == "(float32, bfloat16)"
        assert operation.choose(device, None, torch.bfloat16) is chosen
        for mixed in ((torch.float64,), (torch.float32, torch.float16)):
            assert operation.choose(device, None, *mixed) is operation.reference
    with pytest.raises(NotAvailable, match="has no implementation 'abacus'"):
        operation.choose(torch.device(DEVICE), "abacus")


def test_import_needs_no_triton_and_no_gpu():
    program = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "triton":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Refuse())
import torch
import flic_kernels
assert not any(name.partition(".")[0] == "triton" for name in sys.modules)
assert not any(name.startswith("flic_kernels.triton") for name in sys.modules)
assert not torch.cuda.is_initialized()
x = torch.randn(1, 4, 4, 8)
weight = torch.randn(4, 3, 8, 2)
flic_kernels.frequency_modulation(x, weight)
try:
    flic_kernels.frequency_modulation(x, weight, impl="triton")
except flic_kernels.NotAvailable as reason:
    assert "Triton cannot be imported" in str(reason)
else:
    raise SystemExit("impl='triton' ran without Triton")
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


WRONG = [
    ("window_attention", {"qkv": torch.zeros(1, 24, 16, 144)}, "multiples of 16"),
    ("window_attention", {"qkv": torch.zeros(1, 16, 16, 143)}, r"\[B, H, W, 3C\]"),
    ("window_attention", {"num_heads": 6}, "num_heads"),
    ("window_attention", {"window": 3}, "power of two"),
    ("window_attention", {"tables": [torch.zeros(1, 1)] * 4}, "bias table"),
    ("window_attention", {"tables": []}, "four branches"),
    ("frequency_modulation", {"x": torch.zeros(1, 8, 16, 24)}, "multiples of 16"),
    ("frequency_modulation", {"weight": torch.zeros(16, 8, 24, 2)}, r"P // 2 \+ 1"),
    ("frequency_modulation", {"residual": torch.zeros(1, 16, 16, 24)}, "residual"),
    ("slice_attention", {"k": torch.zeros(1, 64, 64)}, "one shape"),
    ("slice_attention", {"v": torch.zeros(1, 64, 1280).double()}, "one dtype"),
    ("slice_attention", {"slices": 7}, "multiple of slices"),
]


@pytest.mark.parametrize(("name", "change", "message"), WRONG)
def test_bad_shapes_raise(name, change, message):
    operation = OPERATIONS[name]
    arguments = operation.cases[0].make(torch.Generator(), torch.float32)
    with pytest.raises(ValueError, match=message):
        getattr(flic_kernels, name)(**arguments | change)
