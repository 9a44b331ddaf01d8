"""What every launcher of a C++ kernel shares: operators and checks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..ops.registry import NotAvailable

_LIBRARY = torch.library.Library("flic_kernels", "FRAGMENT")


def operator(schema: str, implementation: Callable, fake: Callable) -> Callable:
    """Define flic_kernels::<schema> with its implementation and fake kernel; the operator."""
    name = schema.partition("(")[0]
    _LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    _LIBRARY.impl(name, implementation, "CPU")
    torch.library.register_fake(f"flic_kernels::{name}", fake, lib=_LIBRARY)
    return getattr(torch.ops.flic_kernels, name).default


def check_dtype(*tensors: Tensor) -> None:
    for tensor in tensors:
        if tensor.dtype not in (torch.float32, torch.bfloat16):
            raise NotAvailable(f"not {tensor.dtype}")


def needs_grad(*tensors: Tensor | None) -> bool:
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def plain(tensor: Tensor) -> Tensor:
    return tensor.detach().to(torch.float32).contiguous()
