"""A whole picture through the codec: where encode and decode spend their time, and peak memory.

    python -m benches.bench_codec [--config base] [--size 768 512] [--repeats 3] [--json FILE]

The model has random weights whose latents spread over several integers: a picture then costs more
bits than it would with trained ones, so the coder's share is an upper bound. Decoded integers are
compared with the encoder's before anything is reported.
"""

import argparse
import json
import resource
import statistics
import sys
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from benches.environment import environment
from flic import entropy
from flic.engine import engine_of
from flic.model import FLIC

STAGES = (
    ("encode", "g_a, h_a"),
    ("encode", "exact engine, rANS"),
    ("decode", "exact engine, rANS"),
    ("decode", "g_s"),
)


def spread_model(config: str) -> FLIC:
    """A model with random weights and latents that are not all zero."""
    torch.manual_seed(0)
    model = FLIC(config).eval()
    with torch.no_grad():
        model.g_a[9].weight.mul_(20)
        model.h_a[3].weight.mul_(20)
    return model


@torch.no_grad()
def run(model: FLIC, x: torch.Tensor) -> list[float]:
    """Seconds of each stage."""
    size = tuple(x.shape[2:])
    times = [time.perf_counter()]
    latents = model.analyze(x)
    times.append(time.perf_counter())
    streams = entropy.encode(model, latents)
    times.append(time.perf_counter())
    decoded, y_hat = entropy.decode(model, streams, size)
    times.append(time.perf_counter())
    model.synthesize(y_hat, size)
    times.append(time.perf_counter())
    if not (torch.equal(decoded.y, latents.y) and torch.equal(decoded.z, latents.z)):
        sys.exit("the decoded latents are not the encoder's; nothing reported")
    return [after - before for before, after in zip(times, times[1:], strict=False)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="base")
    parser.add_argument("--size", type=int, nargs=2, default=(768, 512), metavar=("W", "H"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the rows to this file, one a line")
    options = parser.parse_args()
    width, height = options.size
    model = spread_model(options.config)
    engine_of(model)
    x = torch.rand(1, 3, height // 8, width // 8)
    x = torch.nn.functional.interpolate(x, size=(height, width), mode="bicubic").clamp(0, 1)
    run(model, x)
    runs = [run(model, x) for _ in range(options.repeats)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    rows = []
    for (mode, stage), times in zip(STAGES, zip(*runs, strict=True), strict=True):
        rows.append({"mode": mode, "stage": stage, "p50": statistics.median(times)})
    for mode in ("encode", "decode"):
        parts = [i for i, (m, _) in enumerate(STAGES) if m == mode]
        wholes = [sum(times[i] for i in parts) for times in runs]
        rows.append({"mode": mode, "stage": "whole", "p50": statistics.median(wholes)})
    table = Table("", "stage", "seconds", title=f"{options.config}, {width}x{height}, float32")
    for row in rows:
        table.add_row(row["mode"], row["stage"], f"{row['p50']:.3f}")
    Console().print(table)
    print(f"peak memory {peak / 1e9:.2f} GB, {torch.get_num_threads()} threads")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        shared = {"op": "codec", "config": options.config, "shape": [height, width]}
        shared |= {"dtype": "float32", "device": "cpu", "peak_bytes": peak} | environment()
        options.json.write_text("".join(json.dumps(shared | row) + "\n" for row in rows))


if __name__ == "__main__":
    main()
