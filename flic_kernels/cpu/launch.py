"""What every launcher of C++ kernels shares: the arguments of C functions."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from .. import native
from ..ops.registry import NotAvailable

# csrc/cpu/element.h
_ELEMENTS = {torch.float32: 0, torch.bfloat16: 1}
_MOST_THREADS = 256

native.library()  # where it is missing, importing a launcher says so


def element(tensor: Tensor) -> int:
    """The C++ code of a tensor's type; raises NotAvailable where there is none."""
    if tensor.dtype not in _ELEMENTS:  # by autocast: what is given is looked at before
        raise NotAvailable(f"the C++ kernels take float32 and bfloat16, not {tensor.dtype}")
    return _ELEMENTS[tensor.dtype]


def threads() -> int:
    """As many as torch is set to use."""
    return min(torch.get_num_threads(), _MOST_THREADS)


def dense(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """It in one piece and of a type: itself where it is that already, without asking torch for it,
    which takes longer than what follows for a small one."""
    return (tensor if tensor.dtype == dtype else tensor.to(dtype)).contiguous()


def address(tensor: Tensor) -> ctypes.c_void_p:
    """Of a contiguous tensor's data; the caller keeps it alive. Raises NotAvailable elsewhere."""
    return ctypes.c_void_p(_data(tensor))


def pointers(tensors: Sequence[Tensor]) -> ctypes.Array:
    """An array of the contiguous tensors' addresses; the caller keeps them alive."""
    return (ctypes.c_void_p * len(tensors))(*[_data(t) for t in tensors])


def _data(tensor: Tensor) -> int:
    if not tensor.is_cpu:
        raise NotAvailable(f"the C++ kernels need CPU tensors, not {tensor.device.type} ones")
    if not tensor.is_contiguous():
        raise ValueError("a contiguous tensor is needed")
    return tensor.data_ptr()


def call(name: str, *arguments) -> None:
    """Calls flic_<name> of the native library.

    Tensors go as addresses, None as a null pointer.
    """
    function = getattr(native.library(), f"flic_{name}")
    if len(arguments) != len(function.argtypes):  # ctypes itself lets more of them pass
        raise TypeError(f"{name} takes {len(function.argtypes)} arguments, not {len(arguments)}")
    converted = (address(a) if isinstance(a, Tensor) else a for a in arguments)
    native.check(function(*converted), name)
