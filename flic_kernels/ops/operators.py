"""Definition of torch.library operators, for launchers on any device."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_LIBRARY = torch.library.Library("flic_kernels", "FRAGMENT")


def operator(
    schema: str, implementation: Callable, fake: Callable, devices: tuple[str, ...]
) -> Callable:
    """Define flic_kernels::<schema> for `devices` (dispatch keys); returns the operator.

    `fake` gives outputs of the right shape and dtype without computing them.
    """
    name = schema.partition("(")[0]
    _LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    for device in devices:
        _LIBRARY.impl(name, implementation, device)
    torch.library.register_fake(f"flic_kernels::{name}", fake, lib=_LIBRARY)
    return getattr(torch.ops.flic_kernels, name).default


def needs_grad(*tensors: Tensor | None) -> bool:
    """Whether a result of these tensors can be differentiated."""
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
