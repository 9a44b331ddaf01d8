"""What the coder and the exact engine take and give: numpy arrays, or torch tensors where there is
torch. They compute on numpy arrays, which share their memory with tensors.

Neither is imported by importing this: whoever holds a tensor has imported torch, and the codec of
the C library starts without numpy.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch

    Array = np.ndarray | torch.Tensor


def torch_module():
    """torch where this process has imported it, else None."""
    return sys.modules.get("torch")


def is_tensor(x: object) -> bool:
    """Whether x is a torch tensor."""
    # Another thread may be in the middle of importing torch.
    return isinstance(x, getattr(torch_module(), "Tensor", ()))


def device(x: Array) -> str:
    """ "cpu", "cuda:0", ...: where x is."""
    return str(x.device) if is_tensor(x) else "cpu"


def dtype(x: Array) -> str:
    """ "float32", "uint16", ...: the type of x's elements."""
    return str(x.dtype).removeprefix("torch.")


def is_floating(x: Array) -> bool:
    """Whether x holds floating-point numbers."""
    return x.dtype.is_floating_point if is_tensor(x) else x.dtype.kind == "f"


def to_numpy(x: Array) -> np.ndarray:
    """x as a contiguous array, which shares x's memory where it can."""
    import numpy as np

    return np.require(x.numpy(force=True) if is_tensor(x) else x, requirements=("C", "A"))


def to_float32(x: Array) -> np.ndarray:
    """The same of x's numbers as float32."""
    if is_tensor(x):
        return to_numpy(x.detach().cpu().float())
    import numpy as np

    return np.require(x, np.float32, ("C", "A"))


def as_given(x: np.ndarray, tensor: bool) -> Array:
    """An array that was made here, as a tensor where tensors were given."""
    return torch_module().from_numpy(x) if tensor else x
