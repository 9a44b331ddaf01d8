"""What the operations' benchmark measures: each operation at the codec's shapes, and FAT blocks."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

import flic_kernels
from flic.layers import FATBlock
from flic_kernels import NotAvailable
from flic_kernels.ops import OPERATIONS
from flic_kernels.ops.window_attention import (
    BRANCHES,
    branch_shifts,
    branch_windows,
    relative_position_index,
)

WIDTHS = ((96, 8, 1), (144, 16, 2), (256, 32, 4))  # channels, heads, divisor of the size


@dataclass
class Problem:
    """An operation (or what has its fields: reference, differentiable, tolerances) and inputs."""

    name: str
    operation: object
    arguments: dict
    shape: list[int]
    dtype: torch.dtype
    device: str
    others: dict[str, Callable] = field(default_factory=dict)
    compiled: Callable | None = None

    def implementations(self) -> Iterator[tuple[str, Callable]]:
        """(name, function): the reference first, then torch.compile of it, then all others."""
        yield "reference", self.operation.reference
        yield "compile", self.compiled or torch.compile(self.operation.reference, dynamic=False)
        yield from self.others.items()
        for name in getattr(self.operation, "implementations", ()):
            try:
                implementation = self.operation.choose(torch.device(self.device), name)
            except NotAvailable:
                continue
            if self.device in self.operation.implementations[name].devices:
                yield name, implementation


def sdpa(qkv: Tensor, tables, *, num_heads: int, window: int, shifted: bool) -> Tensor:
    """Window attention by PyTorch's fused attention, with the bias as its mask."""
    quarter, heads = qkv.shape[3] // 12, num_heads // BRANCHES
    outputs = []
    for branch, (size, table) in enumerate(zip(branch_windows(window), tables, strict=True)):
        before, after = branch_shifts(*size) if shifted else ((0, 0), (0, 0))
        x = qkv.unflatten(3, (3, BRANCHES, quarter))[..., branch, :]
        x = x.roll((-before[0], -before[1]), (1, 2))
        (batch, height, width, _, _), (wh, ww) = x.shape, size
        rows, columns = height // wh, width // ww
        x = x.reshape(batch, rows, wh, columns, ww, 3, heads, -1)
        q, k, v = x.permute(5, 0, 1, 3, 6, 2, 4, 7).reshape(3, -1, heads, wh * ww, quarter // heads)
        bias = table[relative_position_index(wh, ww, table.device)].permute(2, 0, 1)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
        out = out.reshape(batch, rows, columns, heads, wh, ww, -1).permute(0, 1, 4, 2, 5, 3, 6)
        outputs.append(out.reshape(batch, height, width, quarter).roll(after, (1, 2)))
    return torch.cat(outputs, dim=3)


@dataclass(frozen=True)
class _Block:
    """A FAT block in the shape of an operation; its reference runs without any kernel."""

    reference: Callable
    tolerances: dict
    differentiable: tuple[str, ...] = ("x",)


def _eagerly(block: torch.nn.Module, x: Tensor) -> Tensor:
    """`block(x)` on the references alone, in x's precision."""
    kept = {name: operation.implementations for name, operation in OPERATIONS.items()}
    try:
        for operation in OPERATIONS.values():
            operation.implementations = {}
        return block(x)
    finally:
        for name, operation in OPERATIONS.items():
            operation.implementations = kept[name]


def _fat_block(channels: int, heads: int, shape, dtype, device: str) -> Problem:
    block = FATBlock(channels, heads, shifted=True).to(device, dtype)
    exact = copy.deepcopy(block).double()
    fused = flic_kernels.accelerate(torch.nn.Sequential(copy.deepcopy(block)))

    def reference(x: Tensor) -> Tensor:
        return _eagerly(exact if x.dtype == torch.float64 else block, x)

    tolerances = {torch.float32: 1e-5, torch.bfloat16: 2e-2}
    x = torch.randn(*shape, channels, device=device, dtype=dtype)
    problem = Problem(f"FAT block {channels}", _Block(reference, tolerances), {"x": x},
                      [*shape, channels], dtype, device)  # fmt: skip
    problem.others["accelerated"] = lambda x: fused(x)
    compiled = torch.compile(block, dynamic=False)
    problem.compiled = lambda x: _eagerly(compiled, x)
    return problem


def _draw(device: str, dtype: torch.dtype, *shape: int, scale: float = 1.0) -> Tensor:
    return (scale * torch.randn(*shape, device=device)).to(dtype)


def problems(device: str, size: tuple[int, int]) -> Iterator[Problem]:
    """Operations at the three widths' shapes for a picture of twice `size`."""
    dtypes = (torch.float32, torch.bfloat16) if device == "cuda" else (torch.float32,)
    for dtype in dtypes:
        draw = functools.partial(_draw, device, dtype)
        make = functools.partial(_problem, device=device, dtype=dtype)
        for channels, heads, divisor in WIDTHS:
            shape = (1, size[0] // divisor, size[1] // divisor)
            tables = [
                draw((2 * h - 1) * (2 * w - 1), heads // BRANCHES, scale=0.5)
                for h, w in branch_windows(8)
            ]
            arguments = {"qkv": draw(*shape, 3 * channels), "tables": tables, "num_heads": heads,
                         "window": 8, "shifted": True}  # fmt: skip
            attention = make("window_attention", arguments, [*shape, channels])
            attention.others["sdpa"] = sdpa
            yield attention
            yield _fat_block(channels, heads, shape, dtype, device)
        (channels, _, _), shape = WIDTHS[0], (1, *size)
        x, weight = draw(*shape, channels), _draw(device, torch.float32, 16, 9, channels, 2)
        arguments = {"x": x, "weight": weight, "residual": draw(*shape, channels)}
        yield make("frequency_modulation", arguments, list(x.shape))
        windows = size[0] * size[1] // 64 // 64
        q = [draw(windows, 64, 1280) for _ in range(3)]
        arguments = dict(zip("qkv", q, strict=True)) | {"slices": 5, "heads": 16}
        yield make("slice_attention", arguments, list(q[0].shape))
        arguments = {
            "x": x, "weight": draw(4 * channels, channels, scale=channels**-0.5),
            "bias": draw(4 * channels), "norm_weight": draw(channels), "norm_bias": draw(channels),
            "residual": None, "gelu": True, "groups": 1,
        }  # fmt: skip
        yield make("fused_linear", arguments, list(x.shape))
        arguments = {
            "x": x, "gamma": _draw(device, torch.float32, channels, channels, scale=0.02).abs(),
            "beta": 1 + _draw(device, torch.float32, channels).abs(), "inverse": False,
            "residual": draw(*shape, channels),
        }  # fmt: skip
        yield make("gdn", arguments, list(x.shape))
        u = draw(1, size[0] // 8, size[1] // 8, 1280)
        vectors = [_draw(device, torch.float32, 1280) for _ in range(5)]
        names = ("norm1_weight", "norm1_bias", "conv_bias", "norm2_weight", "norm2_bias")
        arguments = {"u": u, "conv_weight": _draw(device, torch.float32, 1280, 1, 3, 3)}
        arguments |= dict(zip(names, vectors, strict=True)) | {"slices": 5}
        yield make("positional_encoding", arguments, list(u.shape))


def _problem(name: str, arguments: dict, shape: list[int], *, device: str, dtype) -> Problem:
    return Problem(name, OPERATIONS[name], arguments, shape, dtype, device)
