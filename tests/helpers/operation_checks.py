"""How an operation's implementation is compared with its reference, in tests and benches."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


def tensors_of(value) -> list[Tensor]:
    """The tensors of an argument: itself, a sequence's, or none."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], Tensor):
        return list(value)
    return []


def convert(arguments: dict, change: Callable[[Tensor], Tensor]) -> dict:
    """The arguments with every tensor changed."""

    def one(value):
        if isinstance(value, Tensor):
            return change(value)
        return [change(t) for t in value] if tensors_of(value) else value

    return {name: one(value) for name, value in arguments.items()}


def error(result: list[Tensor], expected: list[Tensor]) -> float:
    """norm(result - expected) / norm(expected) over all tensors together; inf if not finite."""
    difference = size = 0.0
    for got, want in zip(result, expected, strict=True):
        assert got.shape == want.shape, f"shape {list(got.shape)}, expected {list(want.shape)}"
        got, want = got.detach().double(), want.detach().double().to(got.device)
        if not torch.isfinite(got).all():
            return float("inf")
        difference += float((got - want).square().sum())
        size += float(want.square().sum())
    return (difference / size) ** 0.5


def forward_error(operation, compute: Callable, arguments: dict) -> float:
    """Error of `compute` against the float64 reference on the same inputs."""
    expected = operation.reference(**convert(arguments, lambda t: t.double()))
    return error([compute(**arguments)], [expected])


def gradient_errors(
    operation, compute: Callable, arguments: dict, seed: int = 0
) -> dict[str, float]:
    """Error of every differentiable argument's gradient, by name, and of the result ("out").

    An argument that is a list of tensors counts as one vector: one of its gradients may be zero.
    """
    exact = convert(arguments, lambda t: t.detach().double().requires_grad_())
    given = convert(arguments, lambda t: t.detach().requires_grad_())
    expected, out = operation.reference(**exact), compute(**given)
    generator = torch.Generator().manual_seed(seed)
    grad = torch.randn(out.shape, generator=generator).to(out.device, out.dtype)
    names = [name for name in operation.differentiable if tensors_of(arguments[name])]
    errors = {"out": error([out], [expected])}
    wanted = torch.autograd.grad(
        expected, [t for n in names for t in tensors_of(exact[n])], grad.double()
    )
    found = torch.autograd.grad(out, [t for n in names for t in tensors_of(given[n])], grad)
    at = 0
    for name in names:
        count = len(tensors_of(given[name]))
        for got, argument in zip(found[at : at + count], tensors_of(given[name]), strict=True):
            assert got.dtype == argument.dtype
        errors[name] = error(list(found[at : at + count]), list(wanted[at : at + count]))
        at += count
    return errors


class _Recorder(TorchDispatchMode):
    """Records the calls of this package's operators."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.namespace == "flic_kernels":
            self.calls.append((function, args))
        return function(*args, **(kwargs or {}))


def check_operators(operation, compute: Callable, arguments: dict, gradients: bool = True) -> None:
    """opcheck on every operator of this package that `compute` and its gradients call."""
    arguments = convert(arguments, lambda t: t.detach().requires_grad_(gradients))
    with _Recorder() as recorder:
        out = compute(**arguments)
        if gradients:
            leaves = [t for n in operation.differentiable for t in tensors_of(arguments[n])]
            torch.autograd.grad(out.sum(), leaves)
    assert recorder.calls
    for function, args in recorder.calls:
        plain = torch.utils._pytree.tree_map_only(Tensor, Tensor.detach, args)
        torch.library.opcheck(function, plain)
