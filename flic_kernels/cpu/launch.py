"""What every launcher of C++ kernels shares: operators, checks, arguments of C functions."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .. import native
from ..ops import operators
from ..ops.registry import NotAvailable

# csrc/cpu/element.h
_ELEMENTS = {torch.float32: 0, torch.bfloat16: 1}
_MOST_THREADS = 256

native.library()  # where it is missing, importing a launcher says so


def operator(schema: str, implementation: Callable, fake: Callable) -> Callable:
    """Define flic_kernels::<schema> for CPU tensors; returns the operator."""
    return operators.operator(schema, implementation, fake, ("CPU",))


def check_tensors(*tensors: Tensor | None) -> None:
    """Raises NotAvailable where a tensor is not on the CPU or of a type the kernels do not take."""
    for tensor in tensors:
        if tensor is None:
            continue
        if tensor.device.type != "cpu":
            raise NotAvailable(f"the C++ kernels need CPU tensors, not {tensor.device.type} ones")
        if tensor.dtype not in _ELEMENTS:
            raise NotAvailable(
                f"the C++ kernels take float32 and bfloat16, not {tensor.dtype}; "
                "impl='reference' takes every floating type"
            )


def element(tensor: Tensor) -> int:
    """The C++ code of a tensor's type."""
    return _ELEMENTS[tensor.dtype]


def threads() -> int:
    """As many as torch is set to use."""
    return min(torch.get_num_threads(), _MOST_THREADS)


def pointers(tensors: Sequence[Tensor]) -> ctypes.Array:
    """An array of the contiguous tensors' addresses; the caller keeps them alive."""
    return (ctypes.c_void_p * len(tensors))(*(native.pointer(t).value for t in tensors))


def call(name: str, *arguments) -> None:
    """Calls flic_<name> of the native library.

    Tensors go as addresses, None as a null pointer, integers as C int; `int64` marks longer ones.
    """
    converted = (native.pointer(a) if isinstance(a, Tensor) else a for a in arguments)
    native.check(getattr(native.library(), f"flic_{name}")(*converted), name)


int64 = ctypes.c_int64
