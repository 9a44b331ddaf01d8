"""A training step: what data, forward, backward and optimisers take, and what reading takes.

    python -m benches.bench_training [--data DIR] [--cases tiny:4x128 base:1x256] [--dtype float32]
        [--device cpu] [--threads N] [--repeats 5] [--json FILE]

A case is CONFIG:BATCHxCROP. Pictures come from --data (default: the two shipped ones), through the
loader that `flic train` uses: "data" is the time for which a step waits for its crops. Rows "batch"
are the loader alone, without threads: crops of decoded pictures, and decoding each time. A step
whose gradient is not finite is not reported.
"""

import argparse
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy
import torch
from rich.console import Console
from rich.table import Table

import flic
from benches.environment import environment
from flic.training import Options, Recipe
from flic.training.crops import Crops, batches, to_tensor
from flic.training.distributed import World
from flic.training.pictures import Pictures, scan
from flic.training.trainer import Trainer

CASES = ("tiny:4x128", "base:1x256")
STAGES = ("data", "forward", "backward", "optimizer")


def recipe_of(case: str, dtype: str) -> Recipe:
    config, _, size = case.partition(":")
    batch, _, crop = size.partition("x")
    return Recipe(config=config, batch=int(batch), crop=int(crop), dtype=dtype, steps=10**6)


def crops_of(folder: Path, recipe: Recipe, cache: int) -> Crops:
    return Crops(Pictures(scan(folder, recipe.crop, print), cache, print), recipe)


def clock(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def step(trainer: Trainer, stream) -> list[float]:
    """Seconds of each stage of a step."""
    device = trainer.world.device
    times = [clock(device)]
    x = to_tensor(next(stream), device)
    times.append(clock(device))
    loss = trainer.forward(x)["loss"]
    times.append(clock(device))
    loss.backward()
    times.append(clock(device))
    if not trainer.apply():
        sys.exit("the gradient is not finite; nothing reported")
    times.append(clock(device))
    return [after - before for before, after in zip(times, times[1:], strict=False)]


def row(op: str, impl: str, mode: str, times: list[float], **more) -> dict:
    p20, p50, p80 = (float(value) for value in numpy.quantile(times, (0.2, 0.5, 0.8)))
    found = {"op": op, "impl": impl, "mode": mode, "status": "ok"}
    return found | {"rounds": len(times), "p20": p20, "p50": p50, "p80": p80} | more


def measure_steps(recipe: Recipe, folder: Path, device: str, repeats: int) -> dict:
    trainer = Trainer(recipe, world=World(device=torch.device(device)))
    options = Options()
    stream = batches(crops_of(folder, recipe, options.cache), 0, trainer.samples, options.workers)
    step(trainer, stream)
    times = [step(trainer, stream) for _ in range(repeats)]
    stream.close()
    stages = dict(zip(STAGES, map(statistics.median, zip(*times, strict=True)), strict=True))
    if device == "cpu":
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    else:
        peak = torch.cuda.max_memory_allocated()
    found = row("training step", "default", "forward+backward", [sum(parts) for parts in times])
    return found | {"stages": stages, "peak_bytes": peak}


def measure_batches(recipe: Recipe, folder: Path, impl: str, repeats: int) -> dict:
    crops = crops_of(folder, recipe, Options.cache if impl == "decoded before" else 0)
    samples, times = range(recipe.batch), []
    for index in range(len(crops.pictures)):
        crops.pictures.read(index)
    for number in range(repeats):
        begin = time.perf_counter()
        crops.batch(number, samples)
        times.append(time.perf_counter() - begin)
    return row("training batch", impl, "forward", times)


def show(rows: list[dict], out: Callable[..., None]) -> None:
    table = Table("", "case", "whole, s", *STAGES, "loading", "pictures/s")
    for found in rows:
        stages = found.get("stages", {})
        parts = [f"{stages[name]:.4f}" if stages else "" for name in STAGES]
        share = f"{stages['data'] / found['p50']:.2%}" if stages else ""
        rate = f"{found['shape'][0] / found['p50']:.1f}"
        name = "step" if stages else f"crops, {found['impl']}"
        table.add_row(name, found["case"], f"{found['p50']:.4f}", *parts, share, rate)
    out(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(flic.__file__).parent / "assets")
    parser.add_argument("--cases", nargs="+", default=CASES, metavar="CONFIG:BATCHxCROP")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the rows to this file, one a line")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    device = torch.cuda.get_device_name() if options.device == "cuda" else options.device
    rows = []
    for case in options.cases:
        recipe = recipe_of(case, options.dtype)
        found = [measure_steps(recipe, options.data, options.device, options.repeats)]
        for impl in ("decoded before", "decoded each time"):
            found.append(measure_batches(recipe, options.data, impl, options.repeats))
        shared = {"case": case, "shape": [recipe.batch, 3, recipe.crop, recipe.crop]}
        shared |= {"dtype": options.dtype, "device": device} | environment()
        rows += [shared | part for part in found]
    show(rows, Console(width=120).print)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text("".join(json.dumps(part) + "\n" for part in rows))


if __name__ == "__main__":
    main()
