"""Every operation of the registry and FAT blocks of the three widths, in every implementation.

    python -m benches ops [--compile] [-k window_attention] [--help]

Operations run on the cases that their files name for it, the codec's sizes at 768x512. A FAT
block's gradients are those of its input and of all its parameters.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch

from benches.measure import compare
from benches.problems import BOTH, FORWARD, ModuleProblem, OperationProblem, Spec
from flic.config import CONFIGS
from flic.layers import FATBlock
from flic_kernels.ops import OPERATIONS

PICTURE = 512, 768  # height, width
SMALL = 16, 32
# A block's result is mostly its input, which passes through; its gradients are not.
BLOCK_TOLERANCES = {
    torch.float32: {FORWARD: 1e-6, BOTH: 2e-5},
    torch.bfloat16: {FORWARD: 1e-2, BOTH: 1e-1},
    torch.float16: {FORWARD: 2e-3, BOTH: 2e-2},
}


def specs(device: str, dtypes: list[torch.dtype], small: bool) -> Iterator[Spec]:
    for dtype in dtypes:
        for operation in OPERATIONS.values():
            names = OperationProblem.names(operation, device)
            for case in (operation.lightest,) if small else operation.timed:
                build = partial(OperationProblem, operation, case, dtype, device)
                tolerances = dict.fromkeys((FORWARD, BOTH), operation.tolerances[dtype])
                yield Spec(operation.name, case.name, dtype, names, tolerances, build)
        config = CONFIGS["tiny" if small else "base"]
        for level, (channels, heads) in enumerate(zip(config.widths, config.heads, strict=True)):
            for shifted in (False, True):
                size = SMALL if small else [side >> level + 1 for side in PICTURE]
                build = partial(block, channels, heads, shifted, size, dtype, device)
                case = f"{channels}-{'shifted' if shifted else 'plain'}"
                names, tolerances = ModuleProblem.names(device), BLOCK_TOLERANCES[dtype]
                yield Spec("FAT block", case, dtype, names, tolerances, build)


def block(channels: int, heads: int, shifted: bool, size, dtype, device: str) -> ModuleProblem:
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        module = FATBlock(channels, heads, shifted=shifted).to(device, dtype)
    x = torch.randn(1, *size, channels, generator=generator).to(device, dtype)
    return ModuleProblem(module, [x], backward=True)


def test_forward(run, benchmark, spec, problem):
    compare(run, benchmark, spec, problem, FORWARD)


def test_forward_backward(run, benchmark, spec, problem):
    compare(run, benchmark, spec, problem, BOTH)
