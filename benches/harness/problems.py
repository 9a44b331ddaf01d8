"""What is timed: an operation or a module of the network, with inputs, in every implementation."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

import flic_kernels
from benches.harness.rows import Row
from benches.harness.sdpa import SERVES
from flic_kernels.ops import OPERATIONS, backends
from flic_kernels.ops.registry import Case, Operation
from tests.helpers.operation_checks import convert, error, tensors_of

FORWARD, BOTH = "forward", "forward+backward"
eagerly = partial(flic_kernels.use, "reference")  # a context: modules run on the references in it


@dataclass(frozen=True)
class Candidate:
    """An implementation bound to its inputs; `leaves` are what backward differentiates, by name."""

    forward: Callable[[], list[Tensor]]
    leaves: Mapping[str, list[Tensor]]

    def flat(self) -> list[Tensor]:
        return [leaf for part in self.leaves.values() for leaf in part]

    def run(self, grads: list[Tensor] | None) -> tuple[list[Tensor], list[Tensor]]:
        """Results and, where the results' `grads` are given, the leaves' gradients."""
        if grads is None:
            with torch.no_grad():
                return self.forward(), []
        results = self.forward()
        return results, list(torch.autograd.grad(results, self.flat(), grads))

    def by_name(self, gradients: list[Tensor]) -> dict[str, list[Tensor]]:
        """`run`'s gradients by their leaves' names; nothing where there are none."""
        rest = iter(gradients)
        parts = self.leaves.items() if gradients else ()
        return {name: [next(rest) for _ in part] for name, part in parts}


def _convolution_backward(
    grad, x, weight, bias, stride, padding, dilation, transposed, output_padding, groups, wanted,
    out_shape=None,
) -> int:  # fmt: skip
    """FlopCounterMode's own formula, as of torch 2.15, takes every convolution for ungrouped."""
    return sum(wanted[:2]) * conv_flop_count(x, weight, grad, transposed=transposed)


COUNTS = {torch.ops.aten.convolution_backward: _convolution_backward}


@dataclass(frozen=True)
class Cost:
    """What one call does.

    `flops` counts a multiply-add as two: the eager reference's products and convolutions, nothing
    else. `bytes_moved` is what has to move: each stage's inputs and outputs and all parameters
    once; for backward the inputs again, their gradients, and the outputs' gradients.
    """

    flops: int
    bytes_moved: int


@dataclass(frozen=True)
class Expected:
    """The reference in float64: results, gradients by name, and what each mode costs.

    `grads` are the results' gradients that backward starts from, in the problem's dtype.
    """

    results: list[Tensor]
    grads: list[Tensor]
    gradients: dict[str, list[Tensor]]
    costs: dict[str, Cost]


class Problem:
    """What `measure.compare` times: something with implementations, on inputs of its own."""

    def check(self, name: str, mode: str) -> tuple[Callable[[], object], dict[str, float]]:
        """The call to time of an implementation, and its errors by what they are of.

        Raises:
            NotAvailable: it cannot be had; the message says why.
        """
        raise NotImplementedError

    def describe(self, row: Row) -> None:
        """Fill in what a timed row says of the problem: shape, flops, bytes_moved or stages."""
        raise NotImplementedError


class NetworkProblem(Problem):
    """A function of tensors with an eager reference."""

    dtype: torch.dtype
    backward: bool  # whether gradients will be asked for

    def candidate(self, name: str) -> Candidate:
        """The implementation of this name, or NotAvailable."""
        raise NotImplementedError

    def exact(self) -> tuple[Candidate, list[Tensor]]:
        """The reference in float64 on the same inputs, and a list that its forward fills.

        In the end it holds all that moves in forward, each tensor as often as it does.
        """
        raise NotImplementedError

    def check(self, name: str, mode: str) -> tuple[Callable[[], object], dict[str, float]]:
        candidate = self.candidate(name)
        grads = self.expected.grads if mode == BOTH else None
        return lambda: candidate.run(grads), self.errors(candidate, mode)

    def describe(self, row: Row) -> None:
        cost = self.expected.costs[row.mode]
        row.shape = list(self.expected.results[0].shape)
        row.flops, row.bytes_moved = cost.flops or None, cost.bytes_moved

    @cached_property
    def expected(self) -> Expected:
        candidate, moved = self.exact()
        size, costs = self.dtype.itemsize, {}
        count = FlopCounterMode(display=False, custom_mapping=COUNTS)
        with count as counter, torch.set_grad_enabled(self.backward):
            results = candidate.forward()
            bytes_moved = size * _count(moved)
            costs[FORWARD] = Cost(counter.get_total_flops(), bytes_moved)
            generator = torch.Generator().manual_seed(1)
            grads = [
                torch.randn(r.shape, generator=generator).to(r.device, self.dtype) for r in results
            ]
            gradients = []
            if self.backward:
                wide = [grad.double() for grad in grads]
                # Not autograd.grad, in which FlopCounterMode's hooks on modules raise.
                torch.autograd.backward(results, wide)
                gradients = [leaf.grad for leaf in candidate.flat()]
                bytes_moved += size * (2 * _count(candidate.flat()) + _count(results))
                costs[BOTH] = Cost(counter.get_total_flops(), bytes_moved)
        results = [result.detach() for result in results]
        return Expected(results, grads, candidate.by_name(gradients), costs)

    def errors(self, candidate: Candidate, mode: str) -> dict[str, float]:
        """norm(difference) / norm(float64 reference): of the results, "out", and of gradients."""
        wanted = self.expected
        results, gradients = candidate.run(wanted.grads if mode == BOTH else None)
        found = candidate.by_name(gradients)
        gradient_errors = {name: error(found[name], wanted.gradients[name]) for name in found}
        return {"out": error(results, wanted.results)} | gradient_errors


def _count(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors)


class OperationProblem(NetworkProblem):
    """An operation on the inputs of one of its cases."""

    backward = True

    def __init__(self, operation: Operation, case: Case, dtype: torch.dtype, device: str):
        self.operation, self.dtype = operation, dtype
        arguments = case.make(torch.Generator().manual_seed(0), dtype)
        self.arguments = convert(arguments, lambda t: t.to(device))

    @staticmethod
    def names(operation: Operation, device: str) -> tuple[str, ...]:
        """The implementations for a device, the reference and torch.compile of it first."""
        own = (i.name for i in operation.implementations.values() if device in i.devices)
        rival = ("sdpa",) if operation.name in SERVES else ()
        return "reference", "compile", *rival, *own

    def candidate(self, name: str) -> Candidate:
        if name == "compile":
            torch._dynamo.reset()  # its limit of recompilations counts other problems' shapes too
            compute = torch.compile(self.operation.reference, dynamic=False, fullgraph=True)
        elif name == "sdpa":
            compute = SERVES[self.operation.name]
        else:
            public = getattr(flic_kernels, self.operation.name)
            compute = lambda **arguments: public(**arguments, impl=name)  # noqa: E731
        return self._bind(compute, self.arguments)

    def exact(self) -> tuple[Candidate, list[Tensor]]:
        arguments = convert(self.arguments, lambda t: t.detach().double())
        moved = [t for value in arguments.values() for t in tensors_of(value)]

        def compute(**arguments):
            result = self.operation.reference(**arguments)
            moved.append(result)
            return result

        return self._bind(compute, arguments), moved

    def _bind(self, compute: Callable[..., Tensor], arguments: dict) -> Candidate:
        leaves = {
            name: [t.requires_grad_() for t in tensors_of(arguments[name])]
            for name in self.operation.differentiable
            if tensors_of(arguments[name])
        }
        return Candidate(lambda: [compute(**arguments)], leaves)


class ModuleProblem(NetworkProblem):
    """A module of the network on given inputs: eager, compiled and as it is.

    `stages` are the submodules between which tensors have to pass through memory; `others` make
    further implementations, functions of the inputs, by name. With `backward` the gradients of the
    first input and of the module's parameters are taken too, of those implementations that are
    modules.
    """

    def __init__(
        self,
        module: nn.Module,
        inputs: Sequence[Tensor],
        stages: Callable[[nn.Module], Iterable[nn.Module]],
        others: Mapping[str, Callable[[], Callable]],
        backward: bool = False,
    ):
        self.module, self.inputs, self.dtype = module, inputs, inputs[0].dtype
        self.stages, self.others, self.backward = stages, others, backward

    @staticmethod
    def names(device: str, others: Iterable[str] = ()) -> tuple[str, ...]:
        """As an operation's; the module as it is counts where the registry has what it can use."""
        used = {table[device] for name, table in backends().items() if name in OPERATIONS}
        own = ("default",) if used != {"reference"} else ()
        return "reference", "compile", *own, *others

    def candidate(self, name: str) -> Candidate:
        if name in self.others:
            found = self.others[name]()
            return self._bind(found, found, self.inputs)
        if name == "default":
            return self._bind(self.module, self.module, self.inputs)
        compute = self.module
        if name == "compile":
            torch._dynamo.reset()
            compute = torch.compile(compute, dynamic=False, fullgraph=True)
        return self._bind(compute, self.module, self.inputs, eager=True)

    def exact(self) -> tuple[Candidate, list[Tensor]]:
        module = copy.deepcopy(self.module).double()
        moved = list(module.parameters())

        def record(_, given, result):
            moved.extend(t for t in (*given, *_list(result)) if isinstance(t, Tensor))

        for stage in self.stages(module):
            stage.register_forward_hook(record)
        inputs = [x.detach().double() for x in self.inputs]
        return self._bind(module, module, inputs, eager=True), moved

    def _bind(
        self, compute: Callable, module: Callable, inputs: Sequence[Tensor], *, eager: bool = False
    ) -> Candidate:
        def forward() -> list[Tensor]:
            with eagerly() if eager else nullcontext():
                return _list(compute(*inputs))

        if not (self.backward and isinstance(module, nn.Module)):
            return Candidate(forward, {})
        leaves = {"x": [inputs[0].requires_grad_()], "parameters": [*module.parameters()]}
        return Candidate(forward, leaves)


def _list(result) -> list[Tensor]:
    return [result] if isinstance(result, Tensor) else list(result)


@dataclass(frozen=True)
class Spec:
    """A problem by name, with what must be known before it is built.

    `tolerances` bound, by mode, the errors that `Problem.check` gives.
    """

    op: str
    case: str
    dtype: torch.dtype
    names: tuple[str, ...]
    tolerances: Mapping[str, float]
    build: Callable[[], Problem]

    def __str__(self) -> str:
        return f"{self.op}-{self.case}-{dtype_name(self.dtype)}"


def dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
