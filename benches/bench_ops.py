"""Operations and FAT blocks, every implementation: speed, memory, bytes, error.

    python -m benches.bench_ops [--json FILE] [--chart FILE] [--size H W] [--only NAME]

On a GPU the sizes are those of a 768x512 picture (`--size` 256 384 at half resolution) in float32
and bfloat16, timed with device events; on a CPU 64 x 128 in float32. Implementations: the
eager reference, torch.compile of it, scaled_dot_product_attention where it can serve, and the
package's own. A result outside the operation's tolerance is reported as WRONG, without a speed, and
the exit status is 1. `bytes_moved` counts each input, output and gradient once; its share is of a
large copy's rate.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benches.cases import Problem, problems
from benches.environment import environment
from tests.operation_checks import gradient_errors, tensors_of

MODES = ("forward", "forward+backward")
COLORS = {"reference": "0.75", "compile": "tab:blue", "sdpa": "tab:orange", "triton": "tab:green",
          "accelerated": "tab:green", "cpu": "tab:red"}  # fmt: skip


def synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def measure(call: Callable[[], object], device: str, repeats: int) -> list[float]:
    """Sorted seconds of `repeats` calls, after two that do not count."""
    for _ in range(2):
        call()
    synchronize(device)
    times = []
    if device == "cuda":
        events = [
            (torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True))
            for _ in range(repeats)
        ]
        for start, stop in events:
            start.record()
            call()
            stop.record()
        synchronize(device)
        times = [start.elapsed_time(stop) / 1e3 for start, stop in events]
    else:
        for _ in range(repeats):
            begin = time.perf_counter()
            call()
            times.append(time.perf_counter() - begin)
    return sorted(times)


def copy_rate(device: str) -> float:
    """Bytes a second of a large copy, read plus written."""
    source = torch.rand(2**28 if device == "cuda" else 2**25, device=device)
    target = torch.empty_like(source)
    times = measure(lambda: target.copy_(source), device, 10)
    return 2 * source.numel() * source.element_size() / times[len(times) // 2]


def bytes_moved(problem: Problem, out: Tensor, mode: str) -> int:
    size = lambda tensors: sum(t.numel() * t.element_size() for t in tensors)  # noqa: E731
    inputs = size(t for value in problem.arguments.values() for t in tensors_of(value))
    forward = inputs + size([out])
    # Backward reads inputs and the output's gradient, and writes the inputs' gradients.
    return forward if mode == "forward" else forward + 2 * inputs + size([out])


def one_row(problem: Problem, name: str, compute: Callable, mode: str, repeats: int) -> dict:
    """Check, then time; without a "p50" where the result is wrong."""
    device = problem.device
    leaves = [
        t.requires_grad_(mode != "forward")
        for key in problem.operation.differentiable
        for t in tensors_of(problem.arguments[key])
    ]
    errors = gradient_errors(problem.operation, compute, problem.arguments)
    checked = errors if mode != "forward" else {"out": errors["out"]}
    error = max(checked.values())
    row = {"op": problem.name, "impl": name, "mode": mode, "error": error,
           "dtype": str(problem.dtype).removeprefix("torch."), "shape": problem.shape}  # fmt: skip
    if not error < problem.operation.tolerances[problem.dtype]:
        return row | {"wrong": True}
    with torch.set_grad_enabled(mode != "forward"):
        out = compute(**problem.arguments)
        grad = torch.randn_like(out)

        def call():
            result = compute(**problem.arguments)
            if mode != "forward":
                torch.autograd.grad(result, leaves, grad)

        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        times = measure(call, device, repeats)
        peak = torch.cuda.max_memory_allocated() if device == "cuda" else None
    at = lambda share: times[min(len(times) - 1, int(share * len(times)))]  # noqa: E731
    row |= {"p20": at(0.2), "p50": at(0.5), "p80": at(0.8), "peak_bytes": peak}
    return row | {"bytes_moved": bytes_moved(problem, out, mode)}


def rows_of(problem: Problem, repeats: int) -> Iterator[dict]:
    for name, compute in problem.implementations():
        for mode in MODES:
            yield one_row(problem, name, compute, mode, repeats)


def show(rows: list[dict]) -> None:
    table = Table("op", "dtype", "mode", "impl", "p50, ms", "x reference", "of copy", "error")
    base = {}
    for row in rows:
        key = row["op"], row["dtype"], row["mode"]
        if row["impl"] == "reference":
            base[key] = row.get("p50")
        speed, ratio, share = "WRONG", "", ""
        if "p50" in row:
            speed, share = f"{row['p50'] * 1e3:.3f}", f"{row['copy_share']:.0%}"
            ratio = f"{base[key] / row['p50']:.2f}" if base.get(key) else ""
        table.add_row(*key, row["impl"], speed, ratio, share, f"{row['error']:.1e}")
    Console(width=120).print(table)


def chart(rows: list[dict], path: Path) -> None:
    """Bars: each operation's speed as a multiple of its eager reference, forward."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    groups: dict[str, dict[str, float]] = {}
    for row in rows:
        if row["mode"] == "forward" and "p50" in row:
            groups.setdefault(f"{row['op']}\n{row['dtype']}", {})[row["impl"]] = row["p50"]
    figure, axes = plt.subplots(figsize=(1.5 + 1.3 * len(groups), 4), layout="constrained")
    for at, times in enumerate(groups.values()):
        for index, (name, seconds) in enumerate(times.items()):
            left = at + (index - (len(times) - 1) / 2) * 0.8 / len(times)
            height = times.get("reference", seconds) / seconds
            axes.bar(left, height, 0.8 / len(times), color=COLORS.get(name, "k"), label=name)
    axes.set_xticks(range(len(groups)), groups, fontsize=7)
    axes.set_ylabel("speed, eager reference = 1")
    axes.axhline(1, color="0.5", linewidth=0.8)
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(*zip(*dict(zip(labels, zip(handles, labels, strict=True), strict=True)).values(),
                     strict=True))  # fmt: skip
    figure.savefig(path, dpi=130)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path, help="write the rows to this file, one a line")
    parser.add_argument("--chart", type=Path, help="draw the forward speeds into this file")
    parser.add_argument("--size", type=int, nargs=2, metavar=("H", "W"))
    parser.add_argument("--only", default="", help="operations whose name contains this")
    parser.add_argument("--repeats", type=int)
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    size = options.size or ((256, 384) if device == "cuda" else (64, 128))
    repeats = options.repeats or (50 if device == "cuda" else 5)
    hardware = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    rate = copy_rate(device)
    shared = environment() | {"device": hardware, "copy_bytes_per_second": rate}
    rows = []
    for problem in problems(device, tuple(size)):
        if options.only in problem.name:
            for row in rows_of(problem, repeats):
                if "p50" in row:
                    row["copy_share"] = row["bytes_moved"] / row["p50"] / rate
                rows.append(shared | row)
    if options.json:
        options.json.write_text("".join(json.dumps(row) + "\n" for row in rows))
    if options.chart:
        chart(rows, options.chart)
    print(f"{hardware}, torch {torch.__version__}, copy {rate / 1e9:.0f} GB/s")
    show(rows)
    return 1 if any("wrong" in row for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
