"""What operations are made of: torch.library operators, back ends, gradients."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Sequence
from types import ModuleType

import torch
from torch import Tensor

_LIBRARY = torch.library.Library("flic_kernels", "FRAGMENT")


def operator(schema: str, allocate: Callable) -> Callable:
    """Define the operator flic_kernels::<schema>; returns it.

    Its last argument, `str impl`, names the back end that computes it: `forward` of the module of
    the operator's name in that package, or `backward` where the name ends so, called with the other
    arguments. `allocate` makes results of the right shape and dtype without computing them: the
    fake kernel.
    """
    name = schema.partition("(")[0]
    operation, direction = name.removesuffix("_backward"), "forward"
    if name != operation:
        direction = "backward"

    def compute(*arguments):
        return getattr(back_end(arguments[-1], operation), direction)(*arguments[:-1])

    _LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    for device in ("CPU", "CUDA"):
        _LIBRARY.impl(name, compute, device)
    fake = functools.wraps(allocate)(lambda *arguments: allocate(*arguments[:-1]))
    torch.library.register_fake(f"flic_kernels::{name}", fake, lib=_LIBRARY)
    return getattr(torch.ops.flic_kernels, name).default


@functools.cache
def back_end(name: str, operation: str) -> ModuleType:
    """The module of an operation in a back end; raises ImportError where it cannot be had.

    Found by name, so that imports run one way: back ends know the operations' geometry, and no
    operation knows its back ends.
    """
    return importlib.import_module(f"flic_kernels.{name}.{operation}")


def gradients_like(
    parameters: Sequence[Tensor | None], found: Sequence[Tensor | None]
) -> list[Tensor]:
    """Each gradient in its parameter's type, an empty tensor where there is no parameter: operators
    return tensors."""
    absent = next(g for g in found if g is not None).new_empty(0, dtype=torch.float32)

    def like(gradient: Tensor | None, parameter: Tensor | None) -> Tensor:
        if parameter is None:
            return absent.clone()
        return gradient if gradient.dtype == parameter.dtype else gradient.to(parameter.dtype)

    return [like(*pair) for pair in zip(found, parameters, strict=True)]


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
