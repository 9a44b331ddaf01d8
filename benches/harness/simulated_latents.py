"""Simulated latents for the entropy coder's benchmarks: no model and no photograph needed."""

import math
from dataclasses import dataclass

import torch


@dataclass
class Latents:
    """Integers y [n] int32 drawn from rounded normals of `means` and `scales` [n] float32, and
    `ideal`, the sum of -log2 of their probabilities under the model, in bits."""

    y: torch.Tensor
    means: torch.Tensor
    scales: torch.Tensor
    ideal: float


def ideal_bits(y: torch.Tensor, means: torch.Tensor, scales: torch.Tensor) -> float:
    """-log2 P summed, with P as FLIC defines it: scales at least 0.01, P at least 1e-9."""
    scales = scales.double().clamp_min(0.01)
    distance = (y.double() - means.double()).abs()

    def cdf(t):
        return 0.5 * torch.erfc(-t / math.sqrt(2))

    p = cdf((0.5 - distance) / scales) - cdf((-0.5 - distance) / scales)
    return -torch.log2(p.clamp_min(1e-9)).sum().item()


def simulate(count: int, rate: float, *, spread: float = 1.2, seed: int = 0) -> Latents:
    """Latents of about `rate` bits a symbol: log-normal scales (deviation `spread`), means
    proportional to their scale, so that at low rates most symbols are sure and few cost bits."""
    generator = torch.Generator().manual_seed(seed)
    log_scale, mean, noise = torch.randn(3, count, generator=generator, dtype=torch.float64)

    def at(level):
        scales = torch.exp(spread * log_scale + level).float()
        means = (mean * scales).float()
        y = torch.round(means + scales.clamp_min(0.01) * noise).int()
        return y, means, scales

    low, high = -9.0, 5.0
    for _ in range(30):
        level = (low + high) / 2
        if ideal_bits(*at(level)) > rate * count:
            high = level
        else:
            low = level
    y, means, scales = at(low)
    return Latents(y, means, scales, ideal_bits(y, means, scales))
