"""What every Triton kernel of this package shares: launch descriptions and how they run.

A launcher first builds `Launch` descriptions (kernel, grid, arguments, configuration) and then runs
them. Ahead-of-time compilation builds the same descriptions from meta tensors, so what is compiled
without a GPU is what runs on one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl

from ..ops.registry import NotAvailable

INTERPRETED = triton.knobs.runtime.interpret
_DTYPES = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}


@dataclass(frozen=True)
class Launch:
    """One kernel launch. `arguments` holds tensors, integers and compile-time constants by name.

    `max_registers` is for kernels that the assembler would rather spill than give more registers.
    """

    kernel: Any
    grid: tuple[int, ...]
    arguments: dict[str, Any]
    num_warps: int
    num_stages: int = 1
    max_registers: int | None = None

    @property
    def options(self) -> dict[str, int]:
        """Triton's compilation options."""
        options = {"num_warps": self.num_warps, "num_stages": self.num_stages}
        return options if self.max_registers is None else options | {"maxnreg": self.max_registers}

    def run(self) -> None:
        if all(self.grid):
            self.kernel[self.grid](**self.arguments, **self.options)


def run(launches: list[Launch], device: torch.device) -> None:
    """Launch in order on `device`."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            for launch in launches:
                launch.run()
        return
    if not INTERPRETED:
        raise NotAvailable(
            f"Triton kernels need CUDA tensors, not {device.type} tensors "
            "(on a CPU they run only in Triton's interpreter, TRITON_INTERPRET=1)"
        )
    for launch in launches:
        launch.run()


def architecture(device: torch.device) -> int:
    """Compute capability as one number, 90 for 9.0; the interpreter counts as 80."""
    if device.type != "cuda":
        return 80
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor


def dot_dtype(dtype: torch.dtype) -> Any:
    """The type of a product's operands: the input's own, but float32 in the interpreter.

    The interpreter multiplies bfloat16 bit patterns as integers, so there operands are cast up.
    """
    return tl.float32 if INTERPRETED else _DTYPES[dtype]


def power_of_two(value: int, least: int = 1) -> int:
    """The smallest power of two that reaches both `value` and `least`."""
    return max(least, 1 << (value - 1).bit_length())
