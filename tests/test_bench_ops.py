"""The operations' benchmark: it checks before it times."""

from __future__ import annotations

import torch

from benches.bench_ops import one_row
from benches.cases import Problem, sdpa
from flic_kernels.ops import OPERATIONS


def problem(name, case):
    operation = OPERATIONS[name]
    arguments = operation.cases[case].make(torch.Generator().manual_seed(0), torch.float32)
    return Problem(name, operation, arguments, [], torch.float32, "cpu")


def test_no_speed_for_a_wrong_result():
    gdn = problem("gdn", -1)

    def slightly_wrong(**arguments):
        return gdn.operation.reference(**arguments) * 1.001

    row = one_row(gdn, "wrong", slightly_wrong, "forward", 3)
    assert row["wrong"] and "p50" not in row
    row = one_row(gdn, "reference", gdn.operation.reference, "forward+backward", 3)
    assert row["p20"] <= row["p50"] <= row["p80"] and "wrong" not in row
    assert row["bytes_moved"] > 0 and row["error"] < 1e-6


def test_sdpa_computes_window_attention():
    for case in (1, 5):  # both kinds of shift
        attention = problem("window_attention", case)
        row = one_row(attention, "sdpa", sdpa, "forward+backward", 1)
        assert "p50" in row and row["error"] < 1e-5
