"""Every operation of the registry: implementations against references, and their manners."""

from __future__ import annotations

import platform
import sys

import pytest
import torch
from operation_checks import convert, error, forward_error, gradient_errors, tensors_of
from processes import in_python

import flic_kernels
from flic_kernels import NotAvailable, backends
from flic_kernels.ops import OPERATIONS

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
COMPOSED = ("fat_block", "conv3x3")  # in Triton: of operations that have cases of their own
# Where pyproject.toml asks for Triton.
WITH_TRITON = sys.platform == "linux" and platform.machine() == "x86_64"
HERE = ("cpu", "triton") if WITH_TRITON else ("cpu",)
DECLARED = {
    "conv3x3": ["cpu", "triton"],
    "fat_block": ["cpu", "triton"],
    "frequency_modulation": ["cpu", "triton"],
    "fused_linear": ["cpu", "triton"],
    "gdn": ["cpu", "triton"],
    "positional_encoding": ["cpu", "triton"],
    "slice_attention": ["cpu", "triton"],
    "window_attention": ["cpu", "triton"],
}
SHORT = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}


def device_of(name):
    """Where an implementation is tested."""
    return "cpu" if name == "cpu" else DEVICE


def implementations(operation):
    """Names of the implementations that must run here, the reference first."""
    return ["reference", *(name for name in operation.implementations if name in HERE)]


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


def takes(operation, name, dtype):
    """Whether an implementation declares a dtype, and a gradient."""
    declared = operation.implementations.get(name)
    return declared is None or declared.dtypes is None or dtype in declared.dtypes


def test_every_declared_back_end_is_here():
    """What a change, or a broken install, silently took away would silently not be tested."""
    assert {name: list(op.implementations) for name, op in OPERATIONS.items()} == DECLARED
    for operation in OPERATIONS.values():
        for name in implementations(operation)[1:]:
            assert operation.choose(torch.device(device_of(name)), name)
            assert operation.implementations[name].gradient


@pytest.mark.parametrize(("operation", "name", "case", "dtype"), list(every_case(DTYPES)))
def test_result_and_gradients(operation, name, case, dtype, poisoned):
    arguments = draw(name, case, dtype)
    function = public(operation, name)
    if not takes(operation, name, dtype):
        with pytest.raises(NotAvailable, match=f"not {dtype}"):
            function(**arguments)
        return
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
def test_any_part_of_the_gradients_alone(operation, name):
    """Frozen parameters get none, a frozen input neither; the others are what all at once are."""
    given = convert(draw(name, operation.lightest, torch.float32), lambda t: t.detach())
    leaves = [(n, t) for n in operation.differentiable for t in tensors_of(given[n])]

    def gradients(wanted):
        for n, leaf in leaves:
            leaf.requires_grad_(n in wanted)
            leaf.grad = None
        public(operation, name)(**given).square().sum().backward()
        return [leaf.grad for _, leaf in leaves]

    everything = gradients(operation.differentiable)
    first = operation.differentiable[0]
    for wanted in ((first,), [n for n in operation.differentiable if n != first]):
        found = gradients(wanted)
        for (n, _), alone, whole in zip(leaves, found, everything, strict=True):
            assert torch.equal(alone, whole) if n in wanted else alone is None, n


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
    known = operation.implementations[name].dtypes
    assert dtypes == f"({', '.join(SHORT[dtype] for dtype in known)})"
    assert all(operation.choose(device, None, dtype) is chosen for dtype in known)
    for unknown in {torch.float64, torch.float16} - set(known):
        assert operation.choose(device, None, torch.float32, unknown) is operation.reference
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
    in_python(program)


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
    ("fused_linear", {"x": torch.zeros(1, 9, 11, 95)}, r"x must be \[..., 96\]"),
    ("fused_linear", {"groups": 4}, "weight must be"),
    ("fused_linear", {"bias": torch.zeros(129)}, "bias must be"),
    ("fused_linear", {"norm_bias": None}, "come together"),
    ("fused_linear", {"residual": torch.zeros(1, 9, 11, 96)}, "residual must be"),
    ("gdn", {"gamma": torch.zeros(96, 95)}, "gamma must be"),
    ("gdn", {"residual": torch.zeros(1, 8, 10, 95)}, "residual must be"),
    ("conv3x3", {"weight": torch.zeros(48, 47, 3, 3)}, "weight must be"),
    ("conv3x3", {"bias": torch.zeros(47)}, "bias must be"),
    ("conv3x3", {"stride": 0}, "stride must be"),
    ("conv3x3", {"shuffle": 5}, "cannot be shuffled"),
    ("conv3x3", {"beta": None}, "come together"),
    ("conv3x3", {"x": torch.zeros(1, 0, 50, 48)}, "with pixels"),
    ("positional_encoding", {"u": torch.zeros(1, 9, 16, 160)}, "multiples of 8"),
    ("positional_encoding", {"conv_weight": torch.zeros(160, 1, 3, 1)}, "conv_weight must be"),
    ("positional_encoding", {"norm2_bias": torch.zeros(159)}, "norms' parameters"),
    ("fat_block", {"x": torch.zeros(1, 16, 24, 96)}, "multiples of 16"),
    ("fat_block", {"parameters": [torch.zeros(96, 96)] * 19}, "has 20 parameters, not 19"),
    ("fat_block", {"parameters": [torch.zeros(96, 96, 1, 2)] * 20}, "must be"),
    ("fat_block", {"num_heads": 6}, "num_heads"),
]


def test_every_operation_is_given_something_wrong():
    assert {name for name, _, _ in WRONG} == OPERATIONS.keys()


@pytest.mark.parametrize(("name", "change", "message"), WRONG)
def test_bad_shapes_raise(name, change, message):
    operation = OPERATIONS[name]
    arguments = operation.cases[0].make(torch.Generator(), torch.float32)
    with pytest.raises(ValueError, match=message):
        getattr(flic_kernels, name)(**arguments | change)
