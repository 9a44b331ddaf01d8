"""The network's transforms and T-CA of the base configuration at 768x512.

    python -m benches transforms [--no-compile] [-k g_a] [--help]

g_a and g_s forward, and forward and backward at 256x256, as they train; the others forward.
"exact" is the exact entropy engine, which coding uses for the hyper-synthesis and T-CA.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import cache, partial

import torch
from torch import Tensor, nn

import flic_kernels
from benches.harness.measure import compare
from benches.harness.models import exact_tca
from benches.harness.problems import BOTH, FORWARD, ModuleProblem, Spec
from flic.model.network import FLIC
from flic_kernels.exact import ExactEngine

PICTURE = 512, 768  # height, width
CROP = 256, 256
SMALL = 128, 128
# Ten stages one after the other; T-CA has twelve layers.
TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 3e-2, torch.float16: 4e-3}
# What leaves a convolution within rounding of 0 may pass the leaky ReLU on its other side, whose
# slope is a hundredth: eager PyTorch's gradients are 2e-4 off in float32, too.
GRADIENTS = {torch.float32: 1e-3, torch.bfloat16: 1e-1, torch.float16: 2e-2}
NAMES = "g_a", "g_s", "h_a", "hyper_synthesis", "tca"


class HyperSynthesis(nn.Module):
    """Both hyper-synthesis transforms, z [B, N, h/4, w/4] -> means and scales [B, 2M, h, w]."""

    def __init__(self, model: FLIC):
        super().__init__()
        self.h_mean_s, self.h_scale_s = model.h_mean_s, model.h_scale_s

    def forward(self, z: Tensor) -> Tensor:
        return torch.cat((self.h_mean_s(z), self.h_scale_s(z)), dim=1)


@cache
def network(small: bool) -> FLIC:
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        return FLIC("tiny" if small else "base").eval()


@cache
def accelerated(small: bool) -> FLIC:
    return flic_kernels.accelerate(copy.deepcopy(network(small)))


def part(model: FLIC, name: str, device: str, dtype: torch.dtype) -> nn.Module:
    """A copy of a transform, on the device."""
    found = HyperSynthesis(model) if name == "hyper_synthesis" else getattr(model, name)
    return copy.deepcopy(found).to(device, dtype)


def specs(device: str, dtypes: list[torch.dtype], small: bool) -> Iterator[Spec]:
    height, width = SMALL if small else PICTURE
    for dtype in dtypes:
        for name in NAMES:
            if name not in ("g_a", "g_s") and dtype != torch.float32:
                continue  # what feeds the coding tables is float32, always
            others = "accelerated", *(("exact",) if name in EXACT and device == "cpu" else ())
            yield Spec(
                name, f"{width}x{height}", dtype, ModuleProblem.names(device, others),
                {FORWARD: TOLERANCES[dtype]},
                partial(transform, name, dtype, device, small, (height, width)),
            )  # fmt: skip
        for name in ("g_a", "g_s"):
            sides = SMALL if small else CROP
            yield Spec(
                name, "crop {1}x{0}".format(*sides), dtype, ModuleProblem.names(device),
                {BOTH: GRADIENTS[dtype]},
                partial(transform, name, dtype, device, small, sides, backward=True),
            )  # fmt: skip


def transform(
    name: str, dtype: torch.dtype, device: str, small: bool, sides: tuple[int, int], *,
    backward: bool = False,
) -> ModuleProblem:  # fmt: skip
    model = network(small)
    latent, hyper = model.config.latent, model.config.hyper
    height, width = (side // 16 for side in sides)
    generator = torch.Generator().manual_seed(0)

    def integers(*shape: int) -> Tensor:
        return torch.round(3 * torch.randn(shape, generator=generator))

    y = integers(1, latent, height, width)
    z = integers(1, hyper, height // 4, width // 4)
    if name == "tca":
        with torch.no_grad():
            inputs = [model.hyper_features(z), y]
    elif name == "g_a":
        inputs = [torch.rand(1, 3, 16 * height, 16 * width, generator=generator)]
    else:
        inputs = [z if name == "hyper_synthesis" else y]
    others = {"accelerated": lambda: part(accelerated(small), name, device, dtype)}
    if name in EXACT:
        others["exact"] = partial(EXACT[name], model)
    inputs = [x.to(device, dtype) for x in inputs]
    module = part(model, name, device, dtype)
    return ModuleProblem(module, inputs, stages, others, backward=backward)


def stages(module: nn.Module) -> list[nn.Module]:
    """The modules between which activations pass through memory."""
    if isinstance(module, HyperSynthesis):
        return [*module.h_mean_s, *module.h_scale_s]
    if isinstance(module, nn.Sequential):
        return list(module)
    return [module, *module.TCA.layers]


def exact_engine_hyper(model: FLIC) -> Callable:
    engine = ExactEngine(model.state_dict(), threads=torch.get_num_threads())
    return lambda z: torch.cat(engine.hyper(z), dim=1)


def exact_engine_tca(model: FLIC) -> Callable:
    engine = ExactEngine(model.state_dict(), threads=torch.get_num_threads())

    def compute(hyper: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        means, scales = hyper[0].chunk(2)
        results, _ = exact_tca(engine, means, scales, y[0])
        return tuple(torch.cat(parts)[None] for parts in zip(*results, strict=True))

    return compute


EXACT = {"hyper_synthesis": exact_engine_hyper, "tca": exact_engine_tca}


def test_transforms(run, benchmark, spec, problem):
    (mode,) = spec.tolerances
    compare(run, benchmark, spec, problem, mode)
