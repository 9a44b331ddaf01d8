"""What each choice of the fast recipe gains: short runs of one budget, one choice changed in each.

    python -m benches recipes --photos DIR [--steps 150] [--out runs/recipes]

DIR holds train/ and eval/. Runs `flic train --recipe fast` on one thread, once as it is and once
for each change; prints, for the pictures in eval/ and whole files, the loss at three quantisation
steps (lower is better), and the BD-rate of the one model with variable rates against three models
that had as many steps for one rate each. Runs that are there already are not made again.
"""

import argparse
import csv
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import bjontegaard

from benches.harness import study
from flic.training import FAST, Recipe


def changes(steps: int) -> dict[str, list[str]]:
    """What differs from the recipe of so many steps, by the options that say so."""
    return {
        "the fast recipe": [],
        "crops of 128 pixels, 16 a step": ["--crop", "128", "--batch-size", "16"],
        "2 crops a step, twice as many steps": ["--batch-size", "2", "--steps", f"{2 * steps}"],
        "Adam for every parameter": ["--optimizer", "adam"],
        "random first weights": ["--no-linear-start"],
        "no steps for the entropy model alone": ["--entropy-first", "0"],
        "scales down to 0.01": ["--scale-bound", "0.01"],
        "no averaging": ["--ema", "0"],
        "gradients balanced by 0.5": ["--balance", "0.5"],
    }


def single_rates() -> dict[str, list[str]]:
    """The options of runs for one rate each, those of the recipe's validated steps."""
    steps = Recipe(steps=1, variable=True).validated_steps
    lambdas = [FAST["lmbda"] / step**2 for step in steps]
    return {f"lambda {v:.4f} alone": ["--no-variable", "--lambda", f"{v:.4f}"] for v in lambdas}


def main(arguments: Sequence[str]) -> None:
    parser = study.parser(__name__, __doc__, publishes=False)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--out", type=Path, default=Path("runs/recipes"))
    given = parser.parse_args(arguments)
    changed = {name: run(given, name, extra) for name, extra in changes(given.steps).items()}
    alone = {name: run(given, name, extra) for name, extra in single_rates().items()}
    print(f"{given.steps} steps of {FAST['batch']} crops of {FAST['crop']} pixels")
    print("| run | CPU minutes | loss at the finest step | at 1 | at the coarsest | mean |")
    print("|---|---|---|---|---|---|")
    for name, (minutes, rows) in changed.items():
        losses = [row["loss"] for row in rows]
        cells = " | ".join(f"{loss:.3f}" for loss in (*losses, statistics.fmean(losses)))
        print(f"| {name} | {minutes:.1f} | {cells} |")
    print("\n| run | CPU minutes | bpp | PSNR | bpp of the one model | its PSNR |")
    print("|---|---|---|---|---|---|")
    (_, one), several = changed["the fast recipe"], []
    for (name, (minutes, [row])), own in zip(alone.items(), one, strict=True):
        several.append(row)
        figures = f"{row['bpp']:.3f} | {row['psnr']:.2f} | {own['bpp']:.3f} | {own['psnr']:.2f}"
        print(f"| {name} | {minutes:.1f} | {figures} |")
    curves = [
        [[row[key] for row in sorted(rows, key=lambda row: row["bpp"])] for key in ("bpp", "psnr")]
        for rows in (several, one)
    ]
    value = bjontegaard.bd_rate(
        *curves[0], *curves[1], method="pchip", require_matching_points=False
    )
    print(f"\nBD-rate of the one model against the {len(several)}: {value:+.1f} %")


def run(given: argparse.Namespace, name: str, extra: list[str]) -> tuple[float, list[dict]]:
    """CPU minutes of a run, and its last validation's rows."""
    folder = given.out / name.replace(" ", "-")
    facts = folder / "minutes.json"
    if not facts.exists():
        before, begin = _child_seconds(), time.time()
        subprocess.run(
            [
                *(sys.executable, "-W", "ignore", "-m", "flic", "train", "--recipe", "fast"),
                *("-d", given.photos / "train", "--validation", given.photos / "eval"),
                *("--steps", str(given.steps), "--save", folder, "--threads", "1"),
                *("--validate-every", str(2 * given.steps), "--every", str(given.steps), *extra),
            ],
            check=True,
        )
        minutes = (_child_seconds() - before) / 60
        print(f"{name}: {time.time() - begin:.0f} s", file=sys.stderr)
        facts.write_text(json.dumps(minutes))
    with (folder / "validation.csv").open(newline="") as file:
        rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
    last = max(row["step"] for row in rows)
    return json.loads(facts.read_text()), [row for row in rows if row["step"] == last]


def _child_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
