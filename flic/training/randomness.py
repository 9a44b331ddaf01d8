"""All that is random in training, each a function of the seed and of what it is for.

Nothing draws from a global generator, so a resumed run needs no generator's state, and the number
of processes or loader threads changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch

_ORDER, _CROP, _NOISE, _SPLIT, _STEP, _START = range(6)


def split_rng(seed: int) -> np.random.Generator:
    """Chooses the pictures that are held out."""
    return np.random.default_rng((seed, _SPLIT))


def order_rng(seed: int, epoch: int) -> np.random.Generator:
    """Orders an epoch's pictures."""
    return np.random.default_rng((seed, _ORDER, epoch))


def crop_rng(seed: int, step: int, sample: int) -> np.random.Generator:
    """Places the crop of one sample of a step's batch."""
    return np.random.default_rng((seed, _CROP, step, sample))


def quantisation_steps(
    seed: int, step: int, samples: Iterable[int], ends: tuple[float, float]
) -> list[float]:
    """A quantisation step for each sample of a step's batch; logarithms are uniform."""
    low, high = np.log(ends)
    return [
        float(np.exp(np.random.default_rng((seed, _STEP, step, sample)).uniform(low, high)))
        for sample in samples
    ]


def start_rng(seed: int) -> np.random.Generator:
    """Chooses what the entropy model is trained on before a run's first step."""
    return np.random.default_rng((seed, _START))


def noise_generators(
    seed: int, step: int, samples: Iterable[int], device: torch.device
) -> list[torch.Generator]:
    """One generator for each sample of a step's batch: noise on its z, then on its y."""
    generators = []
    for sample in samples:
        state = np.random.SeedSequence((seed, _NOISE, step, sample)).generate_state(1, np.uint64)
        generators.append(torch.Generator(device).manual_seed(int(state[0]) >> 1))
    return generators
