"""Where a training step's time goes: by operation, forward and backward.

    python -m benches step_profile [--config tiny] [--batch 4] [--crop 128] [--steps 10]
        [--write FILE[:PART]] [--json FILE]

float32, 2 threads, by torch.profiler, whose own work makes what is not in kernels look larger than
it is. Prints a table in Markdown: milliseconds a step.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch.profiler import ProfilerActivity, profile

from benches.harness import study
from flic.training import Recipe
from flic.training.trainer import Trainer

WARM = 3
OURS, TORCH = "flic_kernels::", "aten::"


def main(arguments: Sequence[str]) -> None:
    parser = study.parser(__name__, __doc__)
    parser.add_argument("--config", default="tiny")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--crop", type=int, default=128)
    parser.add_argument("--steps", type=int, default=10)
    given = parser.parse_args(arguments)
    torch.set_num_threads(2)
    trainer = Trainer(Recipe(given.config, batch=given.batch, crop=given.crop, steps=10**6))
    x = torch.rand(given.batch, 3, given.crop, given.crop)
    for _ in range(WARM):
        trainer.train_step(x)
    with profile(activities=[ProfilerActivity.CPU]) as found:
        start = time.perf_counter()
        for _ in range(given.steps):
            trainer.train_step(x)
        seconds = time.perf_counter() - start
    case = f"{given.config} {given.batch}x{given.crop}x{given.crop}"
    head = (case, "calls", "ms", "backward, ms")
    rows = parts(found.key_averages(), 1e3 * seconds, given.steps)
    study.publish(given, head, rows)


def parts(events: Sequence, milliseconds: float, steps: int) -> list[tuple[str, ...]]:
    """The table's rows; every event counts without those inside it."""
    own = {event.key: (event.count, event.self_cpu_time_total / 1e3) for event in events}
    forward = [key for key in own if key.startswith(OURS) and not key.endswith("_backward")]
    rows, left = [], milliseconds
    for key in sorted(forward, key=lambda key: -own[key][1]):
        count, time_forward = own[key]
        _, time_backward = own.get(f"{key}_backward", (0, 0.0))
        left -= time_forward + time_backward
        times = (f"{t / steps:.1f}" for t in (time_forward, time_backward))
        rows.append((f"`{key.removeprefix(OURS)}`", f"{count // steps}", *times))
    theirs = {key: value for key, value in own.items() if key.startswith(TORCH)}
    calls = sum(count for count, _ in theirs.values()) // steps
    spent = sum(ms for _, ms in theirs.values())
    rows.append(("PyTorch's operators", f"{calls}", f"{spent / steps:.1f}", ""))
    rows.append(("autograd, Python, the rest", "", f"{(left - spent) / steps:.1f}", ""))
    return [*rows, ("a step", "", f"{milliseconds / steps:.1f}", "")]
