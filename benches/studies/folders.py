"""A folder of pictures: one picture a core against all cores on one picture.

    python -m benches folders --photos DIR [-m MODEL | --config base] [--count 8] [--jobs 1 2 ...]

Runs `flic encode` and `flic decode` on COUNT of the folder's pictures (repeated where it has fewer)
with each number of pictures at a time, which share the cores among them. Prints whole seconds,
start of the program included, and megapixels a second between the first picture and the last, where
these came at different times. Without -m the model has random weights of the
configuration, as in `python -m benches large`.
"""

import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path

from benches.harness import photos, study
from benches.harness.models import save_spread_model


def main(arguments: Sequence[str]) -> None:
    cores = len(os.sched_getaffinity(0))
    parser = study.parser(__name__, __doc__, model="random weights of --config", publishes=False)
    parser.add_argument("--config", default="base")
    parser.add_argument("--count", type=int, default=8)
    parser.add_argument("--jobs", type=int, nargs="+", default=sorted({1, cores}))
    given = parser.parse_args(arguments)
    paths = photos.paths(given.photos)
    if not paths:
        parser.error(f"{given.photos} has no pictures")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = given.model or save_spread_model(given.config, folder)
        (folder / "in").mkdir()
        for i, path in enumerate(islice(cycle(paths), given.count)):
            shutil.copy(path, folder / "in" / f"{i:04d}{path.suffix}")
        print("| | jobs | threads each | whole | megapixels/s |\n|---|---|---|---|---|")
        for jobs in given.jobs:
            coded, decoded = f"{jobs}", f"{jobs}.out"
            for mode, *places in (("encode", "in", coded), ("decode", coded, decoded)):
                threads = max(1, cores // jobs)
                command = [mode, *(folder / place for place in places), "-m", model]
                seconds, rate = run(command, jobs, threads)
                cells = f"{mode} | {jobs} | {threads} | {seconds:.1f} s | {rate:.3f}"
                print(f"| {cells} |", flush=True)


def run(arguments: list, jobs: int, threads: int) -> tuple[float, float]:
    """Seconds of a command, and megapixels a second of what follows the first picture, or NaN."""
    command = [sys.executable, "-m", "flic", *map(str, arguments), "--json"]
    command += ["--jobs", str(jobs), "--threads", str(threads)]
    start = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    seconds = time.perf_counter() - start
    results = json.loads(done.stdout)["done"]
    written = sorted(
        (Path(result["output"]).stat().st_mtime, result["width"] * result["height"])
        for result in results
    )
    elapsed = written[-1][0] - written[0][0]
    pixels = sum(pixels for _, pixels in written[1:])
    return seconds, pixels / 1e6 / elapsed if elapsed else math.nan
