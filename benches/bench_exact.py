"""The exact entropy engine against eager PyTorch float32 and the processor's peak, in one run.

    python -m benches.bench_exact [--threads 2] [--size 768 512] [--json out.json]

Weights and latents are random but fixed: the time does not depend on them. Refuses to report where
the engine and eager PyTorch disagree.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch

from benches.environment import environment
from benches.machine import best_of, fma_gflops
from flic.model.network import FLIC
from flic_kernels import native
from flic_kernels.exact import ExactEngine

TOLERANCE = 2e-5  # of the largest value
GOALS = {"avx512": 0.7, "avx2": 0.9}  # T-CA's time as a share of eager's
PRODUCT_GOAL = 0.75  # of the peak
HYPER_GOAL = 0.15  # of T-CA's time


def t_ca(engine, means, scales, y):
    """One picture's T-CA through the engine: the results and the number of multiply-adds."""
    picture = engine.begin(means, scales)
    previous, results = None, []
    for current in y.split(engine.slice_channels):
        results.append(picture.next_slice(previous))
        previous = current
    return results, picture.multiply_adds()


def assert_near(value, expected, what):
    error = ((value - expected).abs().max() / expected.abs().max()).item()
    if not error <= TOLERANCE:
        sys.exit(f"{what}: the engine is {error:.1e} away from eager PyTorch; nothing reported")


@torch.inference_mode()
def measure(isa, model, z, y, threads, repetitions):
    """One row of the table."""
    engine = ExactEngine(model.state_dict(), isa=isa, threads=threads)
    means, scales = engine.hyper(z)
    results, multiply_adds = t_ca(engine, means[0], scales[0], y[0])
    hyper = model.hyper_features(z)
    assert_near(torch.cat((means, scales), 1), hyper, "hyper-synthesis")
    for parts, expected in zip(zip(*results, strict=True), model.tca(hyper, y), strict=True):
        assert_near(torch.cat(parts), expected[0], "T-CA")

    eager_tca, exact_tca, eager_hyper, exact_hyper = best_of(
        repetitions,
        lambda: model.tca(hyper, y),
        lambda: t_ca(engine, means[0], scales[0], y[0]),
        lambda: model.hyper_features(z),
        lambda: engine.hyper(z),
    )
    peak = fma_gflops(isa, threads)
    rate = 2e-9 * multiply_adds / exact_tca
    return {
        "isa": isa,
        "eager_tca_s": eager_tca,
        "exact_tca_s": exact_tca,
        "tca_ratio": exact_tca / eager_tca,
        "tca_ratio_goal": GOALS.get(isa),
        "eager_hyper_s": eager_hyper,
        "exact_hyper_s": exact_hyper,
        "hyper_to_tca": exact_hyper / exact_tca,
        "hyper_to_tca_goal": HYPER_GOAL,
        "tca_gflops": rate,
        "peak_gflops": peak,
        "share_of_peak": rate / peak,
        "share_of_peak_goal": PRODUCT_GOAL,
        "multiply_adds": multiply_adds,
    }


def table(rows):
    lines = [
        "isa     T-CA eager   exact   ratio (goal)   hyper  /T-CA (goal)   GFLOP/s  of peak (goal)"
    ]
    for r in rows:
        lines.append(
            f"{r['isa']:7} {r['eager_tca_s']:9.3f} s {r['exact_tca_s']:6.3f} s  "
            f"{r['tca_ratio']:.2f} ({r['tca_ratio_goal']})   {r['exact_hyper_s']:.3f} s  "
            f"{r['hyper_to_tca']:.2f} ({r['hyper_to_tca_goal']})   {r['tca_gflops']:7.1f}  "
            f"{r['share_of_peak']:.0%} of {r['peak_gflops']:.0f} ({PRODUCT_GOAL:.0%})"
        )
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--size", type=int, nargs=2, default=(768, 512), metavar=("W", "H"))
    parser.add_argument("--config", default="base")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--json", type=Path, help="append the results to this file, one a line")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    model = FLIC(arguments.config).eval()
    width, height = (-(-side // 128) * 8 for side in arguments.size)
    z = torch.round(3 * torch.randn(1, model.config.hyper, height // 4, width // 4))
    y = torch.round(3 * torch.randn(1, model.config.latent, height, width))
    rows = [
        measure(isa, model, z, y, arguments.threads, arguments.repetitions)
        for isa in native.available_isas()
        if isa != "scalar"
    ]
    print(table(rows))
    if arguments.json:
        common = {"config": arguments.config, "size": list(arguments.size), **environment()}
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        with arguments.json.open("a") as file:
            file.writelines(json.dumps({**common, **row}) + "\n" for row in rows)


if __name__ == "__main__":
    main()
