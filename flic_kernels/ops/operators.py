"""Definition of torch.library operators, for launchers on any device."""

from __future__ import annotations

import functools
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


def once_differentiable(backward: Callable) -> Callable:
    """Make the gradients that a `backward` gives refuse to be differentiated again.

    The kernels compute them outside of autograd, which would take them for constants: second
    derivatives would silently lack a part. torch's decorator of this name notices only what comes
    by the incoming gradients; here the error comes whenever a second derivative is asked for. First
    derivatives with create_graph=True work.
    """

    @functools.wraps(backward)
    def once(ctx, *grads):
        with torch.no_grad():
            found = backward(ctx, *grads)
        if torch.compiler.is_compiling() or not torch.is_grad_enabled():
            return found
        tensors = (*ctx.saved_tensors, *grads)
        sources = [t for t in tensors if t is not None and t.requires_grad]
        return tuple(g if g is None or not sources else _Once.apply(g, *sources) for g in found)

    return once


class _Once(torch.autograd.Function):
    """A gradient that depends on `sources` in a way that cannot be differentiated."""

    @staticmethod
    def forward(ctx, grad, *sources):
        return grad.view_as(grad)

    @staticmethod
    def backward(ctx, grad):
        raise RuntimeError(
            "flic_kernels' operations can be differentiated once: for second derivatives compute "
            'with impl="reference" or inside flic_kernels.use("reference")'
        )
