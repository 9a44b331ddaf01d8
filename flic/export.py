"""g_a and g_s as torch.export programs that hold flic_kernels' operators.

    program = export(model, "g_a")
    torch.export.save(program, "g_a.pt2")
    y = load("g_a.pt2").module()(x)

An operator in a program computes by what it was exported with: export on the device that the
program is to run on. T-CA and the coder are no part of it: what feeds the coding tables comes from
the exact engine (docs/exact.md), never from a compiled program.
"""

from __future__ import annotations

import contextlib
import os
from typing import IO, TYPE_CHECKING

import torch
from torch.export import Dim, ExportedProgram

from flic_kernels import NotAvailable
from flic_kernels.ops import OPERATIONS

from .config import STRIDE

if TYPE_CHECKING:
    from .model.network import FLIC

_STEPS = {"g_a": STRIDE, "g_s": STRIDE // 16}  # the sides of an input are multiples of these


@torch.no_grad()
def export(model: FLIC, name: str, size: tuple[int, int, int] | None = None) -> ExportedProgram:
    """A transform of the model for inference.

    Args:
        model: in eval mode; its weights become the program's.
        name: "g_a", pictures [B, 3, H, W] to latents [B, M, H / 16, W / 16], or "g_s", back.
        size: batch, height and width of the only input that the program takes; None for any batch
            and all sides that are multiples of 128 (g_a) or 8 (g_s).

    Raises:
        ValueError: another name, or sides that are no such multiples.
    """
    if name not in _STEPS:
        raise ValueError(f"g_a and g_s can be exported, not {name!r}")
    step = _STEPS[name]
    channels = 3 if name == "g_a" else model.config.latent
    batch, height, width = size or (2, 2 * step, 3 * step)
    if height % step or width % step:
        raise ValueError(f"{name}'s height and width are multiples of {step}, not {height}x{width}")
    parameter = next(getattr(model, name).parameters())
    x = torch.zeros(batch, channels, height, width, dtype=parameter.dtype, device=parameter.device)
    shapes = None
    if size is None:
        shapes = ({0: Dim("batch"), 2: step * Dim("rows"), 3: step * Dim("columns")},)
    return torch.export.export(getattr(model, name), (x,), dynamic_shapes=shapes)


def load(file: str | os.PathLike | IO[bytes]) -> ExportedProgram:
    """torch.export.load, with flic_kernels' operators known, those of this machine."""
    for operation in OPERATIONS.values():
        for implementation in operation.implementations.values():
            with contextlib.suppress(NotAvailable):
                implementation.load()
    return torch.export.load(file)
