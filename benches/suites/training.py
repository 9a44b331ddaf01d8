"""Training steps of both configurations, and the loader alone, forward and backward.

    python -m benches training [--help]

A step is what `flic train` does with one batch; its stages are waiting for crops ("data": two
threads read ahead), forward, backward, and the optimisers with the weights' average. The gradients
of a first step are compared with float64 before anything is timed. "crops" are those of one step,
read without threads, from pictures that are kept or decoded each time. The pictures are the two
shipped ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy
import torch

import flic
from benches.harness.measure import compare
from benches.harness.problems import BOTH, FORWARD, ModuleProblem, Problem, Spec, dtype_name
from benches.harness.rows import Row
from benches.harness.stages import Stages, using
from flic.training import Options, Recipe
from flic.training.crops import Crops, batches, to_tensor
from flic.training.distributed import World
from flic.training.pictures import Pictures, scan
from flic.training.trainer import Trainer
from tests.helpers.operation_checks import error

CASES = (("tiny", 4, 128), ("base", 1, 256))
SMALL = (("tiny", 1, 128),)
TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 1e-1}
CACHES = {"crops, kept": Options.cache, "crops, decoded": 0}
PICTURES = Path(flic.__file__).parent / "assets"


def specs(device: str, dtypes: list[torch.dtype], small: bool) -> Iterator[Spec]:
    names = tuple(name for name in ModuleProblem.names(device) if name in ("reference", "default"))
    for config, batch, crop in SMALL if small else CASES:
        case = f"{config} {batch}x{crop}x{crop}"
        for dtype in dtypes:
            if dtype not in TOLERANCES:
                continue
            recipe = Recipe(config, batch=batch, crop=crop, dtype=dtype_name(dtype), steps=10**6)
            build, tolerances = partial(Step, recipe, device), {BOTH: TOLERANCES[dtype]}
            yield Spec("training step", case, dtype, names, tolerances, build)
        for op, cache in CACHES.items():
            build = partial(Batch, recipe, cache)
            yield Spec(op, case, torch.float32, ("default",), {FORWARD: 1e-12}, build)


def crops_of(recipe: Recipe, cache: int) -> Crops:
    return Crops(Pictures(scan(PICTURES, recipe.crop, print), cache, print), recipe)


class Step(Problem):
    """Training steps; notes what the stages take."""

    def __init__(self, recipe: Recipe, device: str):
        self.recipe, self.world = recipe, World(device=torch.device(device))
        self.stages = Stages(device)
        exact = Trainer(recipe, start=Trainer(recipe).model.double(), world=self.world)
        with using("reference"):
            self.expected = self.gradients(exact)

    def gradients(self, trainer: Trainer) -> list[torch.Tensor]:
        """Of the first step; the weights stay."""
        crops = crops_of(self.recipe, 0).batch(0, trainer.samples)
        dtype = trainer.parameters[0].dtype
        trainer.forward(to_tensor(crops, self.world.device).to(dtype))["loss"].backward()
        return [parameter.grad for parameter in trainer.parameters]

    def check(self, name: str, mode: str) -> tuple[Callable[[], object], dict[str, float]]:
        trainer = Trainer(self.recipe, world=self.world)
        with using(name):
            errors = {"out": error(self.gradients(trainer), self.expected)}
        trainer.model.zero_grad()
        crops = crops_of(self.recipe, Options.cache)
        stream = batches(crops, 0, trainer.samples, Options.workers)
        next(stream)
        return partial(self.step, name, trainer, stream), errors

    def describe(self, row: Row) -> None:
        row.shape = [self.recipe.batch, 3, self.recipe.crop, self.recipe.crop]
        row.stages = self.stages.medians(row.impl)

    def step(self, name: str, trainer: Trainer, stream: Iterator[numpy.ndarray]) -> None:
        with self.stages.timed(name, "data"):
            x = to_tensor(next(stream), self.world.device)
        with self.stages.timed(name, "forward"):
            loss = trainer.forward(x)["loss"]
        with self.stages.timed(name, "backward"):
            loss.backward()
        with self.stages.timed(name, "optimizers"):
            trainer.apply()


class Batch(Problem):
    """The crops of one step after another, read by the calling thread."""

    def __init__(self, recipe: Recipe, cache: int):
        self.recipe, self.cache = recipe, cache
        self.expected = crops_of(recipe, 0).batch(0, range(recipe.batch))

    def check(self, name: str, mode: str) -> tuple[Callable[[], object], dict[str, float]]:
        crops = crops_of(self.recipe, self.cache)
        for index in range(len(crops.pictures)):
            crops.pictures.read(index)
        stream = batches(crops, 0, range(self.recipe.batch), 0)
        same = numpy.array_equal(next(stream), self.expected)
        return partial(next, stream), {"out": 0.0 if same else float("inf")}

    def describe(self, row: Row) -> None:
        row.shape = list(self.expected.shape)


def test_training(run, benchmark, spec, problem):
    (mode,) = spec.tolerances
    compare(run, benchmark, spec, problem, mode)
