"""The exact entropy engine against eager PyTorch float32 and the processor's peak, in one run.

    python -m benches exact_engine [--threads 2] [--size 768 512] [--config base]
        [--write FILE[:PART]] [--json FILE]

Weights and latents are random but fixed: the time does not depend on them. Refuses to report where
the engine and eager PyTorch disagree. Prints a table in Markdown.
"""

import sys
from collections.abc import Sequence

import torch

from benches.harness import rows, study
from benches.harness.environment import environment
from benches.harness.machine import best_of, fma_gflops
from benches.harness.models import exact_tca
from flic.model.network import FLIC
from flic_kernels import native
from flic_kernels.exact import ExactEngine

TOLERANCE = 2e-5  # of the largest value
GOALS = {"avx512": 0.7, "avx2": 0.9}  # T-CA's time as a share of eager's
PRODUCT_GOAL = 0.75  # of the peak
HYPER_GOAL = 0.15  # of T-CA's time
HEAD = (
    "", "T-CA, eager", "T-CA, exact", "ratio (goal)", "hyper-synthesis, exact", "of T-CA (goal)",
    "T-CA's share of the peak (goal)",
)  # fmt: skip


def assert_near(value, expected, what):
    error = ((value - expected).abs().max() / expected.abs().max()).item()
    if not error <= TOLERANCE:
        sys.exit(f"{what}: the engine is {error:.1e} away from eager PyTorch; nothing reported")


@torch.inference_mode()
def measure(isa, model, z, y, threads, repetitions):
    """One instruction set's row of the table."""
    engine = ExactEngine(model.state_dict(), isa=isa, threads=threads)
    means, scales = engine.hyper(z)
    results, multiply_adds = exact_tca(engine, means[0], scales[0], y[0])
    hyper = model.hyper_features(z)
    assert_near(torch.cat((means, scales), 1), hyper, "hyper-synthesis")
    for parts, expected in zip(zip(*results, strict=True), model.tca(hyper, y), strict=True):
        assert_near(torch.cat(parts), expected[0], "T-CA")

    eager_tca, own_tca, eager_hyper, exact_hyper = best_of(
        repetitions,
        lambda: model.tca(hyper, y),
        lambda: exact_tca(engine, means[0], scales[0], y[0]),
        lambda: model.hyper_features(z),
        lambda: engine.hyper(z),
    )
    peak = fma_gflops(isa, threads)
    rate = 2e-9 * multiply_adds / own_tca
    return {
        "isa": isa,
        "eager_tca_s": eager_tca,
        "exact_tca_s": own_tca,
        "tca_ratio": own_tca / eager_tca,
        "tca_ratio_goal": GOALS.get(isa),
        "eager_hyper_s": eager_hyper,
        "exact_hyper_s": exact_hyper,
        "hyper_to_tca": exact_hyper / own_tca,
        "hyper_to_tca_goal": HYPER_GOAL,
        "tca_gflops": rate,
        "peak_gflops": peak,
        "share_of_peak": rate / peak,
        "share_of_peak_goal": PRODUCT_GOAL,
        "multiply_adds": multiply_adds,
    }


def table(found):
    lines = []
    for r in found:
        lines.append(
            (
                r["isa"],
                f"{r['eager_tca_s']:.3f} s",
                f"{r['exact_tca_s']:.3f} s",
                f"{r['tca_ratio']:.2f} ({r['tca_ratio_goal']})",
                f"{r['exact_hyper_s']:.3f} s",
                f"{r['hyper_to_tca']:.2f} ({r['hyper_to_tca_goal']})",
                f"{r['share_of_peak']:.0%} ({PRODUCT_GOAL:.0%}) of {r['peak_gflops']:.0f} GFLOP/s",
            )
        )
    return lines


def main(arguments: Sequence[str]) -> None:
    parser = study.parser(__name__, __doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--size", type=int, nargs=2, default=(768, 512), metavar=("W", "H"))
    parser.add_argument("--config", default="base")
    parser.add_argument("--repetitions", type=int, default=5)
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    model = FLIC(given.config).eval()
    width, height = (-(-side // 128) * 8 for side in given.size)
    z = torch.round(3 * torch.randn(1, model.config.hyper, height // 4, width // 4))
    y = torch.round(3 * torch.randn(1, model.config.latent, height, width))
    isas = [isa for isa in native.available_isas() if isa != "scalar"]
    found = [measure(isa, model, z, y, given.threads, given.repetitions) for isa in isas]
    kept, case = [], "{} {}x{}".format(given.config, *given.size)
    for values in found:
        where = environment() | {"isa": values["isa"]}
        row = rows.Row("exact engine", case, "exact", "forward", "float32", rows.OK, **where)
        row.values = values
        kept.append(row)
    study.publish(given, HEAD, table(found), kept)
