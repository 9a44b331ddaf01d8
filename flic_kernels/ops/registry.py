"""The registry of operations: one specification each; tests, benches and dispatch walk it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .. import native
from . import operators

OPERATIONS: dict[str, Operation] = {}
_BACK_ENDS: dict[str, dict] = {
    "cpu": {"devices": ("cpu",), "dtypes": (torch.float32, torch.bfloat16)},
    "triton": {
        "devices": ("cuda",),
        "dtypes": (torch.float32, torch.bfloat16, torch.float16),
        "emulated": ("cpu",),
    },
}
# For the whole process: autograd's and DataParallel's threads compute as the caller asked.
_forced: list[str | None] = [None]


class NotAvailable(RuntimeError):
    """The implementation asked for cannot run here; the message says why."""


@dataclass(frozen=True)
class Case:
    """One set of inputs to an operation: `make(generator, dtype)` gives its keyword arguments."""

    name: str
    make: Callable[[torch.Generator, torch.dtype], dict[str, Any]]


@dataclass(frozen=True)
class Implementation:
    """One way to compute an operation.

    devices: the torch device types whose tensors it takes by default. load: gives the function
    (called with the operation's arguments, without `impl`) or raises `NotAvailable`; so does the
    function for tensors that it cannot take. dtypes: the types of those tensors (None: any).
    gradient: whether its results can be differentiated. emulated: the device types that it runs on
    where it is asked for, if an emulator is on.
    """

    name: str
    devices: tuple[str, ...]
    load: Callable[[], Callable[..., Tensor]]
    dtypes: tuple[torch.dtype, ...] | None = None
    gradient: bool = True
    emulated: tuple[str, ...] = ()

    def serves(self, device: torch.device, dtypes: tuple[torch.dtype, ...], gradient: bool) -> bool:
        """Whether it is the default for tensors of these types on this device."""
        return (
            device.type in self.devices
            and (self.dtypes is None or all(dtype in self.dtypes for dtype in dtypes))
            and (self.gradient or not gradient)
        )

    def check(self, device: torch.device, dtypes: tuple[torch.dtype, ...], gradient: bool) -> None:
        """Raises NotAvailable where it does not take such tensors or has no gradient."""
        kernels, instead = f"the kernels of impl={self.name!r}", "impl='reference' takes every"
        if device.type not in self.devices + self.emulated:
            known = " or ".join(self.devices).upper()
            raise NotAvailable(f"{kernels} need {known} tensors, not {device.type} ones")
        for dtype in dtypes:
            if self.dtypes is not None and dtype not in self.dtypes:
                *others, last = (str(t).removeprefix("torch.") for t in self.dtypes)
                known = f"{', '.join(others)} and {last}" if others else last
                raise NotAvailable(f"{kernels} take {known}, not {dtype}; {instead} floating type")
        if gradient and not self.gradient:
            raise NotAvailable(f"{kernels} have no gradient; {instead} derivative")


def implementation(
    name: str, compute: Callable[..., Tensor], module: str, gradient: bool = True
) -> Implementation:
    """That of a back end: `compute` with impl=name, where the back end's module can be imported."""
    bound = functools.partial(compute, impl=name)

    def load() -> Callable[..., Tensor]:
        reason = _missing(name, module)
        if reason:
            raise NotAvailable(reason)
        return bound

    return Implementation(name, load=load, gradient=gradient, **_BACK_ENDS[name])


@torch.compiler.assume_constant_result
def _missing(name: str, module: str) -> str | None:
    """Why a back end's module cannot be imported."""
    try:
        operators.back_end(name, module)
    except native.NativeLibraryMissing as error:
        return str(error)
    except ImportError as error:
        return f"Triton cannot be imported ({error})"
    return None


@dataclass
class Operation:
    """An operation's contract: its eager reference, implementations, test cases and tolerances.

    compute: computes by the back end named by its argument `impl`. back_ends: their packages, in
    the order in which they are tried; the reference comes last and runs on every device.
    composed: those that have no module of the operation's name, but compose it of other operations.
    without_gradient: those whose results cannot be differentiated.
    tolerances[dtype]: bounds norm(result - reference) / norm(reference), where the reference runs
    in float64 on the same inputs. cases: the last is the lightest. benchmarks: the codec's own
    sizes, what `python -m benches` times (see `timed`).
    """

    name: str
    reference: Callable[..., Tensor]
    compute: Callable[..., Tensor]
    cases: tuple[Case, ...]
    tolerances: Mapping[torch.dtype, float]
    differentiable: tuple[str, ...]
    benchmarks: tuple[Case, ...] = ()
    back_ends: tuple[str, ...] = ("cpu", "triton")
    composed: tuple[str, ...] = ()
    without_gradient: tuple[str, ...] = ()
    implementations: dict[str, Implementation] = field(init=False)

    def __post_init__(self):
        if self.name in OPERATIONS:
            raise ValueError(f"operation {self.name!r} is registered already")
        OPERATIONS[self.name] = self
        self.implementations = {
            name: implementation(
                name,
                self.compute,
                "launch" if name in self.composed else self.name,
                name not in self.without_gradient,
            )
            for name in self.back_ends
        }

    @property
    def lightest(self) -> Case:
        """The case for checks that need only one."""
        return self.cases[-1]

    @property
    def timed(self) -> tuple[Case, ...]:
        """What to time: the benchmarks, or the first test case where there are none."""
        return self.benchmarks or self.cases[:1]

    def choose_for(self, impl: str | None, x: Tensor, *others: Tensor | None) -> Callable:
        """`choose` for these tensors, x's device. Of an empty x the reference makes an empty
        result: kernels have nothing to do there, and divide their work by its size."""
        tensors = [x, *(t for t in others if t is not None)]
        dtypes = tuple(t.dtype for t in tensors)
        impl = impl if x.numel() else "reference"
        return self.choose(x.device, impl, *dtypes, gradient=operators.needs_grad(*tensors))

    def choose(
        self,
        device: torch.device,
        impl: str | None,
        *dtypes: torch.dtype,
        gradient: bool = False,
    ) -> Callable[..., Tensor]:
        """The function that computes this operation on `device` for tensors of `dtypes`.

        `impl`, or else the name given to `use`, forces one. gradient: whether the result is to be
        differentiated.
        """
        impl = impl or _forced[-1]
        if impl == "reference":
            return self.reference
        if impl is not None:
            if impl not in self.implementations:
                known = ", ".join(["reference", *self.implementations])
                raise NotAvailable(f"{self.name} has no implementation {impl!r} (it has: {known})")
            self.implementations[impl].check(device, dtypes, gradient)
            return self.implementations[impl].load()
        for candidate in self.implementations.values():
            if candidate.serves(device, dtypes, gradient):
                return candidate.load()
        return self.reference


@contextmanager
def use(impl: str) -> Iterator[None]:
    """Every operation computes by this implementation inside a `with` block, process-wide.

    impl: "reference", say, to compare a whole model with its eager self. Where an operation has no
    such implementation it raises NotAvailable when it is called. An operation's own `impl` counts
    more.
    """
    _forced.append(impl)
    try:
        yield
    finally:
        _forced.pop()


def backends() -> dict[str, dict[str, str]]:
    """Which implementation each operation uses by default: {operation: {device type: name}}.

    Where it takes only some types the name is followed by them, "cpu (float32, bfloat16)", and for
    tensors of other types the next implementation serves, the reference at last. The entropy
    coder's parts, "exact_engine" and "rans", are listed too (native.entropy_backends).
    """
    table = {}
    for operation in OPERATIONS.values():
        table[operation.name] = {}
        for device in ("cpu", "cuda"):
            chosen = "reference"
            for candidate in operation.implementations.values():
                if device in candidate.devices:
                    chosen = candidate.name
                    if candidate.dtypes is not None:
                        names = (str(dtype).removeprefix("torch.") for dtype in candidate.dtypes)
                        chosen = f"{chosen} ({', '.join(names)})"
                    break
            table[operation.name][device] = chosen
    return table | native.entropy_backends()
