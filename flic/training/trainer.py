"""The state of a training run and its step."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ..config import resolve
from ..model.layers import FrequencyModulation, WindowBias
from ..model.network import FLIC
from .crops import Crops
from .distributed import World, parallel, trained
from .flat import Flat
from .loss import rate_distortion
from .optimizers import optimizers_for
from .randomness import noise_generators, quantisation_steps
from .recipe import Recipe
from .schedule import scheduler
from .start import prepare


class Trainer:
    """Model, averaged model, optimisers, learning rate and the step they are at.

    Every process of a `World` has one, and all of them go through the same states.

    Attributes:
        model, averaged: the weights that train, and their running average.
        step: optimiser steps so far, skipped ones included.
        skipped, skipped_in_a_row: steps whose gradient was not finite.
    """

    def __init__(self, recipe: Recipe, *, start: FLIC | None = None, world: World | None = None):
        """`start` gives the first weights; without, they are random and follow from the seed."""
        self.recipe, self.world = recipe, world or World()
        self.step = self.skipped = self.skipped_in_a_row = 0
        if start is None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(recipe.seed)
                model = FLIC(recipe.config)
            if recipe.plain_start:
                _make_plain(model)
        elif start.config != resolve(recipe.config):
            raise ValueError("the weights to start from have another configuration")
        else:
            model = copy.deepcopy(start)
        self.model = model.to(self.world.device).train()
        self.model.gaussian_conditional.training_bound = recipe.scale_bound
        self.averaged = copy.deepcopy(self.model).eval()
        self.parameters, auxiliary = trained(self.model)
        averages, others = trained(self.averaged)
        self.averaged.requires_grad_(False)
        self._flat = Flat(self.parameters)
        self._weights = [*self._flat.pieces, *auxiliary]
        self._averages = [*Flat(averages).pieces, *others]
        # What the optimisers move: Muon takes matrices, Adam few pieces of memory.
        pieces = [nn.Parameter(piece) for piece in self._flat.pieces]
        self._moved = pieces if recipe.optimizer == "adam" else self.parameters
        self.optimizers = optimizers_for(recipe, self.model, self._moved)
        self.aux_optimizer = torch.optim.Adam(auxiliary, lr=recipe.aux_lr, fused=True)
        self.schedulers = [scheduler(optimizer, recipe) for optimizer in self.optimizers]
        self.samples = self.world.share(recipe.batch)
        self.network = parallel(self.model, auxiliary, self.world)

    def begin(self, crops: Crops) -> None:
        """Before the first step: what the recipe makes of the pictures, the same everywhere."""
        recipe = self.recipe
        if recipe.optimizer == "adam" and not recipe.linear_start:
            return
        prepare(self.model, crops, recipe, self.optimizers)
        self.world.share_out([*self.model.parameters()])
        self.averaged.load_state_dict(self.model.state_dict())

    @property
    def learning_rate(self) -> float:
        """The (first) learning rate of the coming step."""
        return self.optimizers[0].param_groups[0]["lr"]

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """The terms of the loss (`rate_distortion`) for this process's part of the coming batch."""
        recipe, device = self.recipe, self.world.device
        generators = noise_generators(recipe.seed, self.step, self.samples, device)
        steps = None
        if recipe.variable:
            ends = recipe.finest, recipe.coarsest
            drawn = quantisation_steps(recipe.seed, self.step, self.samples, ends)
            steps = torch.tensor(drawn, device=device)
        low = recipe.dtype == "bfloat16"
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=low):
            out = self.network(x, generators, steps)
        return rate_distortion(
            out, x, recipe.lmbda, recipe.metric, steps=steps, balance=recipe.balance
        )

    def train_step(self, x: Tensor) -> dict[str, Tensor] | None:
        """One step on this process's part x [b, 3, crop, crop] of the batch, values in [0, 1].

        Returns this process's terms of the loss, or None where the gradient was not finite: such a
        step changes no weights and no average, and is counted.
        """
        terms = self.forward(x)
        terms["loss"].backward()
        finite = self.apply()
        return {name: term.detach() for name, term in terms.items()} if finite else None

    def apply(self) -> bool:
        """End the step: move weights, quantiles and average by the gradients that are there.

        False where these are not finite; then only the step is counted.
        """
        if self.recipe.optimizer == "adam":
            gathered = self._flat.gathered([p.grad for p in self.parameters])
            for piece, gradient in zip(self._moved, gathered, strict=True):
                piece.grad = gradient
        gradients = [p.grad for p in self._moved]
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        finite = bool(torch.isfinite(norm))
        if finite and self.recipe.clip and norm > self.recipe.clip:
            torch._foreach_mul_(gradients, self.recipe.clip / (norm + 1e-6))
        if finite:
            for optimizer in self.optimizers:
                optimizer.step()
            self.aux_optimizer.zero_grad(set_to_none=True)
            self.model.entropy_bottleneck.loss().backward()
            self.aux_optimizer.step()
            self._average()
        for weight in (*self.parameters, *self._moved):  # zero_grad looks in all modules again
            weight.grad = None
        self.skipped += not finite
        self.skipped_in_a_row = 0 if finite else self.skipped_in_a_row + 1
        if self.recipe.steps is not None:
            for each in self.schedulers:
                each.step()
        self.step += 1
        return finite

    def load_optimizers(self, states: Sequence[Mapping]) -> None:
        """Put the optimisers where these saved states of theirs were."""
        if self.recipe.optimizer == "adam":
            states = [self._flat.adam_state(state) for state in states]
        for optimizer, state in zip(self.optimizers, states, strict=True):
            optimizer.load_state_dict(state)

    @torch.no_grad()
    def _average(self) -> None:
        # Early on the average follows quickly, so that it forgets the initial weights.
        decay = min(self.recipe.ema, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(self._averages, self._weights, 1 - decay)


@torch.no_grad()
def _make_plain(model: FLIC) -> None:
    """Bias tables of 0 and modulations of 1, as the published network starts with them."""
    for module in model.modules():
        if isinstance(module, WindowBias):
            module.relative_position_bias_table.zero_()
        elif isinstance(module, FrequencyModulation):
            module.complex_weight.copy_(torch.tensor((1.0, 0.0)))
