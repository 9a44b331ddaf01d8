"""The GPU part in under 8 minutes: tests of the kernels on the card, then the benchmarks.

    python -m benches gpu --out DIR

The tests run in float32, bfloat16 and float16. The benchmarks run twice: without torch.compile,
then with it, whose compilations take most of the time, until the time is used up: rows that were
not reached say "skipped". Writes to DIR tests.txt, rows.json, chart.png, chart.svg and each
benchmark's own output, and prints the table last. Ends with a non-zero status where there is no
GPU, a test fails, a result is wrong or something had to be stopped.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from benches.harness import report, rows, study

TESTS = tuple(f"tests/kernels/test_{name}.py" for name in ("ops", "triton", "accelerate"))
SECONDS = 460
TESTS_SHARE = 0.35
# Benchmarks: their share of the time that is left, suites in order of importance, options.
STEPS = {
    "eager": (0.65, ("transforms", "codec", "ops"), ["--no-compile"]),
    "compile": (1.0, ("ops", "transforms"), []),
}
SLOWEST = 40  # seconds that a benchmark may take beyond its budget: one problem's compilations


def run_step(command: Sequence[str], log: Path, seconds: float) -> int | None:
    """Exit status of a command whose output goes to `log`; None where it had to be stopped."""
    environment = {n: value for n, value in os.environ.items() if n != "TRITON_INTERPRET"}
    with log.open("w") as file:
        process = subprocess.Popen(
            command, env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            return process.wait(max(1, seconds))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # its session: what it started ends too
            process.wait()
            return None


def last_line(path: Path) -> str:
    return path.read_text().strip().rpartition("\n")[2]


def test_command() -> list[str]:
    workers = str(min(8, os.cpu_count() or 1))  # compilations of kernels take most of the time
    return [sys.executable, "-m", "pytest", "-q", "-n", workers, *TESTS]


def bench_command(
    suites: Sequence[str], path: Path, device: str, budget: float, more: Sequence[str]
) -> list[str]:
    """Benchmarks whose rows go to `path`, none begun after `budget` seconds."""
    written = ("--rows", str(path), "--chart", str(path.with_name("chart")))
    limits = ("--device", device, "--budget", f"{max(0, budget):.0f}")
    return [sys.executable, "-m", "benches", *suites, *written, *limits, *more]


def main(arguments: Sequence[str]) -> int:
    parser = study.parser(__name__, __doc__, publishes=False)
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for everything")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="tiny inputs, to see that it runs")
    parser.add_argument("--only", metavar="NAME", help="benchmarks that pytest's -k NAME chooses")
    given = parser.parse_args(arguments)
    if given.device == "cuda" and not torch.cuda.is_available():
        print("benches gpu: no CUDA device is available", file=sys.stderr)
        return 2
    end = time.monotonic() + given.seconds
    left = lambda: end - time.monotonic()  # noqa: E731
    given.out.mkdir(parents=True, exist_ok=True)
    rest = ["--small"] if given.small else []
    rest += ["-k", given.only] if given.only else []
    name = torch.cuda.get_device_name() if given.device == "cuda" else "cpu"

    log = given.out / "tests.txt"
    failed = []
    status = run_step(test_command(), log, TESTS_SHARE * given.seconds)
    print(f"tests on {name}: {'stopped' if status is None else last_line(log)}", flush=True)
    if status != 0:
        failed.append("tests")

    found: list[rows.Row] = []
    for step, (share, suites, more) in STEPS.items():
        path = given.out / f"{step}.json"
        path.unlink(missing_ok=True)
        budget = share * left() - SLOWEST
        command = bench_command(suites, path, given.device, budget, [*more, *rest])
        status = run_step(command, path.with_suffix(".txt"), left())
        if status != 0:
            failed.append(f"benchmarks, {step}" + (" (stopped)" if status is None else ""))
        made = rows.read(path) if path.exists() else []
        found = rows.merge(found, made)
    rows.write(found, given.out / "rows.json")
    report.chart(found, given.out / "chart")
    if failed:
        print(f"failed: {'; '.join(failed)} (see {given.out})", flush=True)
    report.show(found)
    return 1 if failed else 0
