"""A whole picture through the codec: encode and decode, and where their time goes.

    python -m benches codec [--help]

The base configuration at 768x512 with random weights whose latents spread over several integers: a
picture then costs more bits than it would with trained ones, so the coder's share is an upper
bound. "default" is the codec as it is, "reference" the one whose transforms run eagerly; the exact
engine and rANS are in both. Encoding is right if it decodes to the integers that were coded; a
decoded picture is compared with the one that the eager transform gives for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property, partial

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benches.harness.measure import compare
from benches.harness.models import spread_model
from benches.harness.problems import COUNTS, FORWARD, ModuleProblem, Problem, Spec, eagerly
from benches.harness.rows import Row
from benches.harness.stages import Stages
from flic.coding import entropy
from flic.coding.model_engine import engine_of
from tests.helpers.operation_checks import error

PICTURE = 512, 768  # height, width
SMALL = 128, 128
TOLERANCES = {"encode": 1e-12, "decode": 1e-5}


def specs(device: str, dtypes: list[torch.dtype], small: bool) -> Iterator[Spec]:
    height, width = SMALL if small else PICTURE
    names = tuple(name for name in ModuleProblem.names(device) if name in ("reference", "default"))
    for op, tolerance in TOLERANCES.items():
        build = partial(Coding, op, device, small)
        tolerances = {FORWARD: tolerance}
        yield Spec(op, f"{width}x{height}", torch.float32, names, tolerances, build)


class Coding(Problem):
    """Encoding or decoding a picture; notes what the stages take."""

    def __init__(self, op: str, device: str, small: bool):
        self.op, self.device, self.size = op, device, SMALL if small else PICTURE
        self.model = spread_model("tiny" if small else "base").to(device)
        engine_of(self.model)
        generator = torch.Generator().manual_seed(0)
        coarse = torch.rand(1, 3, *(side // 8 for side in self.size), generator=generator)
        x = torch.nn.functional.interpolate(coarse, size=self.size, mode="bicubic")
        self.x = x.clamp(0, 1).to(device)
        self.stages = Stages(device)
        latents, self.streams = self.encode("reference")
        self.latents = latents.y, latents.z

    def check(self, name: str, mode: str) -> tuple[Callable[[], object], dict[str, float]]:
        if self.op == "decode":
            off = error([self.decode(name)], [self.decode("reference")])
        else:
            latents, streams = self.encode(name)
            decoded, _ = entropy.decode(self.model, streams, self.size)
            same = torch.equal(decoded.y, latents.y.cpu())
            off = 0.0 if same and torch.equal(decoded.z, latents.z.cpu()) else float("inf")
        self.stages.clear()
        return partial(getattr(self, self.op), name), {"out": off}

    @cached_property
    def flops(self) -> int:
        """Of the networks' products and convolutions that this direction needs."""
        model = self.model
        y, z = (torch.zeros(1, *part.shape[1:], device=self.device) for part in self.latents)
        used = [partial(model.hyper_features, z), partial(model.tca, model.hyper_features(z), y)]
        if self.op == "encode":
            used += [partial(model.g_a, self.x), partial(model.h_a, y)]
        else:
            used += [partial(model.g_s, y)]
        with eagerly(), FlopCounterMode(display=False, custom_mapping=COUNTS) as counter:
            for part in used:
                part()
        return counter.get_total_flops()

    @torch.no_grad()
    def describe(self, row: Row) -> None:
        row.shape, row.flops = list(self.x.shape), self.flops
        row.stages = self.stages.medians(row.impl)

    def encode(self, name: str) -> tuple[entropy.Latents, list[bytes]]:
        with self.stages.timed(name, "g_a, h_a"):
            latents = self.model.analyze(self.x)
        with self.stages.timed(name, "exact engine, rANS"):
            return latents, entropy.encode(self.model, latents)

    def decode(self, name: str) -> Tensor:
        with self.stages.timed(name, "exact engine, rANS"):
            _, y_hat = entropy.decode(self.model, self.streams, self.size)
        with self.stages.timed(name, "g_s"):
            return self.model.synthesize(y_hat, self.size)


def test_codec(run, benchmark, spec, problem):
    compare(run, benchmark, spec, problem, FORWARD)
