"""What each choice of the fast recipe gains: short runs of one budget, one choice changed in each.

    python -m benches.recipes --photos DIR [--steps 150] [--out runs/recipes]
    python -m benches.recipes --optimizers

DIR holds train/ and eval/. Runs `flic train --recipe fast` on one thread, once as it is and once
for each change; prints, for the pictures in eval/ and whole files, the loss at three quantisation
steps (lower is better), and the BD-rate of the one model with variable rates against three models
that had as many steps for one rate each. Runs that are there already are not made again.
The second line times a step of this project's Muon and of torch's on the matrices of `small`.
"""

import argparse
import csv
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import bjontegaard
import torch

from flic.model.network import FLIC
from flic.training import FAST, Recipe
from flic.training.optimizers import Muon, Split, optimizers_for

CHANGES = {
    "the fast recipe": [],
    "Adam for every parameter": ["--optimizer", "adam"],
    "random first weights": ["--no-linear-start"],
    "no steps for the entropy model alone": ["--entropy-first", "0"],
}
"""What differs from the recipe, by the options that say so."""


def single_rates() -> dict[str, list[str]]:
    """The options of runs for one rate each, those of the recipe's validated steps."""
    steps = Recipe(steps=1, variable=True).validated_steps
    lambdas = [FAST["lmbda"] / step**2 for step in steps]
    return {f"lambda {v:.4f} alone": ["--no-variable", "--lambda", f"{v:.4f}"] for v in lambdas}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    work = parser.add_mutually_exclusive_group(required=True)
    work.add_argument("--photos", type=Path)
    work.add_argument("--optimizers", action="store_true")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--out", type=Path, default=Path("runs/recipes"))
    options = parser.parse_args()
    if options.optimizers:
        time_optimizers()
        return
    changed = {name: run(options, name, extra) for name, extra in CHANGES.items()}
    alone = {name: run(options, name, extra) for name, extra in single_rates().items()}
    print(f"{options.steps} steps of {FAST['batch']} crops of {FAST['crop']} pixels")
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


def run(options: argparse.Namespace, name: str, extra: list[str]) -> tuple[float, list[dict]]:
    """CPU minutes of a run, and its last validation's rows."""
    folder = options.out / name.replace(" ", "-")
    facts = folder / "minutes.json"
    if not facts.exists():
        before, begin = _child_seconds(), time.time()
        subprocess.run(
            [
                *(sys.executable, "-W", "ignore", "-m", "flic", "train", "--recipe", "fast"),
                *("-d", options.photos / "train", "--validation", options.photos / "eval"),
                *("--steps", str(options.steps), "--save", folder, "--threads", "1", *extra),
                *("--validate-every", str(options.steps), "--every", str(options.steps)),
            ],
            check=True,
        )
        minutes = (_child_seconds() - before) / 60
        print(f"{name}: {time.time() - begin:.0f} s", file=sys.stderr)
        facts.write_text(json.dumps(minutes))
    with (folder / "validation.csv").open(newline="") as file:
        rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
    return json.loads(facts.read_text()), [row for row in rows if row["step"] == options.steps]


def time_optimizers() -> None:
    """Print what a step takes on one thread, after one that allocates."""
    torch.set_num_threads(1)
    ours = muon_of(FLIC(FAST["config"]))
    matrices = []
    for group in ours.param_groups:
        split = Split(group["count"], group["interleaved"])
        for parameter in group["params"]:
            parameter.grad = torch.randn_like(parameter)
            for matrix, gradient in zip(
                split.apart(parameter.detach()), split.apart(parameter.grad), strict=True
            ):
                matrices.append(torch.nn.Parameter(matrix.clone()))
                matrices[-1].grad = gradient.clone()
    theirs = torch.optim.Muon(matrices, lr=1e-3)
    for name, optimizer in (("flic.training.optimizers.Muon", ours), ("torch.optim.Muon", theirs)):
        optimizer.step()
        begin = time.process_time()
        optimizer.step()
        print(f"{name}: {time.process_time() - begin:.2f} s, {len(matrices)} matrices")


def muon_of(model: FLIC) -> Muon:
    """The fast recipe's Muon for all of a model."""
    parameters = [p for name, p in model.named_parameters() if not name.endswith(".quantiles")]
    return optimizers_for(Recipe(steps=1, optimizer="muon"), model, parameters)[0]


def _child_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
