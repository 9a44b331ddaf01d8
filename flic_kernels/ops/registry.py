"""The registry of operations: one specification each; tests, benches and dispatch walk it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .. import native

OPERATIONS: dict[str, Operation] = {}
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

    `devices` are the torch device types whose tensors it takes by default, `dtypes` the types of
    those tensors (None: any); `load` imports and returns the function (called with the operation's
    arguments, without `impl`) or raises `NotAvailable`. So does the function for tensors that it
    cannot take.
    """

    name: str
    devices: tuple[str, ...]
    load: Callable[[], Callable[..., Tensor]]
    dtypes: tuple[torch.dtype, ...] | None = None

    def serves(self, device: torch.device, dtypes: tuple[torch.dtype, ...]) -> bool:
        """Whether it is the default for tensors of these types on this device."""
        known = self.dtypes is None or all(dtype in self.dtypes for dtype in dtypes)
        return device.type in self.devices and known


def triton_kernel(load: Callable[[], Callable[..., Tensor]]) -> Implementation:
    """The Triton implementation, which `load` imports; without Triton it raises `NotAvailable`."""

    def load_or_explain() -> Callable[..., Tensor]:
        try:
            return load()
        except ImportError as error:
            raise NotAvailable(f"Triton cannot be imported ({error})") from error

    return Implementation("triton", ("cuda",), load_or_explain)


def cpu_kernel(load: Callable[[], Callable[..., Tensor]]) -> Implementation:
    """The C++ implementation, which `load` imports; without the native library: `NotAvailable`."""

    def load_or_explain() -> Callable[..., Tensor]:
        try:
            return load()
        except native.NativeLibraryMissing as error:
            raise NotAvailable(str(error)) from error

    return Implementation("cpu", ("cpu",), load_or_explain, (torch.float32, torch.bfloat16))


@dataclass
class Operation:
    """An operation's contract: its eager reference, implementations, test cases and tolerances.

    `benchmarks` are the codec's own sizes: what `python -m benches` times (see `timed`).

    `tolerances[dtype]` bounds norm(result - reference) / norm(reference), where the reference runs
    in float64 on the same inputs. The last case is the lightest. Implementations are tried in the
    order of their registration; the reference comes last and runs on every device.
    """

    name: str
    reference: Callable[..., Tensor]
    cases: tuple[Case, ...]
    tolerances: Mapping[torch.dtype, float]
    differentiable: tuple[str, ...]
    implementations: dict[str, Implementation] = field(default_factory=dict)
    benchmarks: tuple[Case, ...] = ()

    def __post_init__(self):
        if self.name in OPERATIONS:
            raise ValueError(f"operation {self.name!r} is registered already")
        OPERATIONS[self.name] = self

    @property
    def lightest(self) -> Case:
        """The case for checks that need only one."""
        return self.cases[-1]

    @property
    def timed(self) -> tuple[Case, ...]:
        """What to time: the benchmarks, or the first test case where there are none."""
        return self.benchmarks or self.cases[:1]

    def choose_for(
        self, x: Tensor, impl: str | None, *dtypes: torch.dtype
    ) -> Callable[..., Tensor]:
        """`choose` for a tensor's device. Of an empty one the reference makes an empty result:
        kernels have nothing to do there, and divide their work by its size."""
        return self.choose(x.device, impl if x.numel() else "reference", *dtypes)

    def choose(
        self, device: torch.device, impl: str | None, *dtypes: torch.dtype
    ) -> Callable[..., Tensor]:
        """The function that computes this operation on `device` for tensors of `dtypes`.

        `impl`, or else the name given to `use`, forces one.
        """
        impl = impl or _forced[-1]
        if impl == "reference":
            return self.reference
        if impl is not None:
            if impl not in self.implementations:
                known = ", ".join(["reference", *self.implementations])
                raise NotAvailable(f"{self.name} has no implementation {impl!r} (it has: {known})")
            return self.implementations[impl].load()
        for candidate in self.implementations.values():
            if candidate.serves(device, dtypes):
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
