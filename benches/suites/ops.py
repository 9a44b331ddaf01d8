"""Every operation of the registry in every implementation, forward and backward.

    python -m benches ops [--no-compile] [-k window_attention] [--help]

They run on the cases that their files name for it: the codec's sizes at 768x512.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch

from benches.harness.measure import compare
from benches.harness.problems import BOTH, FORWARD, OperationProblem, Spec
from flic_kernels.ops import OPERATIONS


def specs(device: str, dtypes: list[torch.dtype], small: bool) -> Iterator[Spec]:
    for dtype in dtypes:
        for operation in OPERATIONS.values():
            names = OperationProblem.names(operation, device)
            tolerances = dict.fromkeys((FORWARD, BOTH), operation.tolerances[dtype])
            for case in (operation.lightest,) if small else operation.timed:
                build = partial(OperationProblem, operation, case, dtype, device)
                yield Spec(operation.name, case.name, dtype, names, tolerances, build)


def test_forward(run, benchmark, spec, problem):
    compare(run, benchmark, spec, problem, FORWARD)


def test_forward_backward(run, benchmark, spec, problem):
    compare(run, benchmark, spec, problem, BOTH)
