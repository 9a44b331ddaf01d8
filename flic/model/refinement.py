"""Latents of a picture improved by gradients; network, file and decoder stay what they are.

Stochastic Gumbel annealing (Yang, Bamler and Mandt, 2020, "Improving Inference for Neural Image
Compression", section 3.2): each latent is a soft choice between the integers on either side of it,
which hardens as a temperature falls. The odds are those of a scaled sigmoid (Perugachi-Diaz,
Gansekoele and Bhulai, 2024, "Robustly overfitting latents for flexible neural image compression",
section 3.2), so steep that only what lies near the middle is in doubt: few iterations do. T-CA
reads the soft values, so that all slices are computed at once. Whether the result is better is for
an exact encode to say.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ..coding.entropy import Unrounded
from .network import FLIC

# Of (rate, temperatures, steepness) the best of some 30 that were tried, with 10 to 200 iterations.
_RATE = 0.03  # of Adam, in steps; it falls to a tenth
_BETAS = 0.8, 0.99
_WARM, _COLD = 1.0, 0.7  # temperatures
_STEEP = 12.0  # how much faster the odds change than with the distance's own sigmoid
_INSIDE = 1e-4  # how near to an integer a latent's distance is taken
_NEAR = 2.0**0.25  # steps beside the one in question, whose costs give the slope


class Cost(NamedTuple):
    """bits: of a picture. error: the mean square, of values in [0, 1]; as the network has them."""

    bits: Tensor
    error: Tensor


def cost(model: FLIC, y: Tensor, z: Tensor, x: Tensor, step: float) -> Cost:
    """What coding costs.

    Args:
        y, z: relaxed integers, [1, M, h, w] and [1, N, h/4, w/4], z's about its medians.
        x: the picture, [1, 3, H, W]; where y covers more, that does not count.
    """
    z_hat = z + model.z_medians()
    z_likelihoods = model.entropy_bottleneck.likelihoods(z_hat)
    means, scales, lrp = model.tca(model.hyper_features(z_hat), y * step)
    likelihoods = model.gaussian_conditional(y, means / step, scales / step)
    x_hat = model.g_s((y + 0.5 * torch.tanh(lrp)) * step)[:, :, : x.shape[2], : x.shape[3]]
    bits = -likelihoods.log2().sum() - z_likelihoods.log2().sum()
    return Cost(bits, (x_hat.clamp(0, 1) - x).square().mean())


@torch.no_grad()
def around(model: FLIC, start: Unrounded, x: Tensor, step: float) -> tuple[Cost, Cost]:
    """Costs at a finer and at a coarser step."""
    return tuple(
        cost(model, (start.y / other).round(), start.z.round(), x, other)
        for other in (step / _NEAR, step * _NEAR)
    )


def refine(
    model: FLIC,
    start: Unrounded,
    x: Tensor,
    step: float,
    slope: float,
    iterations: int,
    progress: Callable[[int, float], None],
    enough: Callable[[], bool],
) -> Unrounded:
    """Latents with less cost, bits + slope times the sum of all squared errors.

    Args:
        model: in evaluation mode, its parameters without gradients.
        start: what g_a and h_a give, of one picture.
        x: as for `cost`.
        progress: told after each iteration how many there were, and the cost in bits a pixel.
        enough: whether to end with what there is, asked before each iteration.
    """
    generator = torch.Generator(x.device).manual_seed(0)

    def relaxed(value: Tensor, temperature: float) -> Tensor:
        low = value.detach().floor()
        above = (value - low).clamp(_INSIDE, 1 - _INSIDE)
        noise = torch.rand(value.shape, generator=generator, device=x.device)
        noise = noise.clamp(1e-6, 1 - 1e-6)
        return low + torch.sigmoid((noise.logit() + _STEEP * above.logit()) / temperature)

    y = (start.y / step).requires_grad_()
    z = start.z.clone().requires_grad_()
    adam = torch.optim.Adam([y, z], lr=_RATE, betas=_BETAS)
    for i in range(iterations):
        if enough():
            break
        done = i / iterations
        temperature = _WARM * math.exp(done * math.log(_COLD / _WARM))
        adam.param_groups[0]["lr"] = _RATE * (1 - 0.9 * done)
        bits, error = cost(model, relaxed(y, temperature), relaxed(z, temperature), x, step)
        loss = bits / x.numel() + slope * error
        y.grad, z.grad = torch.autograd.grad(loss, [y, z])
        adam.step()
        progress(i + 1, x.shape[1] * loss.item())
    return Unrounded(y.detach() * step, z.detach())
