"""Probability models of z and y as the network trains with them (paper, section 3.4; CompressAI).

What the coder uses are integer tables made from these: flic/coding/slice_loop.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from compressai.entropy_models import EntropyBottleneck as CompressAIEntropyBottleneck
from compressai.ops import LowerBound
from compressai.ops.bound_ops import LowerBoundFunction
from torch import Tensor, nn

SCALE_BOUND = 0.01
LIKELIHOOD_BOUND = 1e-9


def round_straight_through(x: Tensor) -> Tensor:
    """round(x) with the gradient of the identity."""
    return x + (torch.round(x) - x).detach()


def add_noise(x: Tensor, generators: Sequence[torch.Generator] | None = None) -> Tensor:
    """x [B, ...] plus uniform noise in [-0.5, 0.5), the training-time stand-in for rounding.

    generators: one for each of the B samples, on x's device; default: torch's global one. A
    sample's noise then depends on its own generator alone, not on the batch that it is in, nor on
    its dtype.
    """
    if generators is None:
        return x + torch.empty_like(x).uniform_(-0.5, 0.5)
    noise = torch.empty(x.shape, dtype=torch.float32, device=x.device)
    for sample, generator in zip(noise, generators, strict=True):
        sample.uniform_(-0.5, 0.5, generator=generator)
    return x + noise.to(x.dtype)


def lower_bound(x: Tensor, bound: float) -> Tensor:
    """max(x, bound); the gradient passes where x is above the bound or is pushed up to it."""
    return LowerBoundFunction.apply(x, x.new_full((), bound))


class EntropyBottleneck(CompressAIEntropyBottleneck):
    """The factorised prior of z, with CompressAI's parameters and a forward that compiles whole."""

    def forward(
        self, z: Tensor, generators: Sequence[torch.Generator] | None = None
    ) -> tuple[Tensor, Tensor]:
        """z [B, C, H, W] -> (z_hat, likelihoods).

        z_hat is rounded about the medians, with a straight-through gradient. The likelihoods are
        those of z plus noise (`add_noise`) in training, of z_hat in evaluation.
        """
        medians = self.quantiles[:, 0, 1].detach()[None, :, None, None]
        z_hat = round_straight_through(z - medians) + medians
        return z_hat, self.likelihoods(add_noise(z, generators) if self.training else z_hat)

    def likelihoods(self, z: Tensor) -> Tensor:
        """Of values z [B, C, H, W], rounded or not, in the unit intervals about them."""
        flat = z.transpose(0, 1).flatten(1)[:, None]
        ends = torch.cat((flat - 0.5, flat + 0.5), dim=2)
        lower, upper = torch.sigmoid(self._logits_cumulative(ends, stop_gradient=False)).chunk(2, 2)
        shape = (z.shape[1], z.shape[0], *z.shape[2:])
        return lower_bound(upper - lower, LIKELIHOOD_BOUND).reshape(shape).transpose(0, 1)


class _GaussianBuffers(nn.Module):
    """Buffers of the published checkpoints that carry nothing the network needs."""

    def __init__(self):
        super().__init__()
        for name in ("_offset", "_quantized_cdf", "_cdf_length"):
            self.register_buffer(name, torch.zeros(0, dtype=torch.int32))
        self.register_buffer("scale_bound", torch.tensor([SCALE_BOUND]))
        for name in ("_indexes_table", "_prior_mean", "_prior_scale"):
            self.register_buffer(name, torch.zeros(0))
        self.likelihood_lower_bound = LowerBound(LIKELIHOOD_BOUND)
        self.lower_bound_scale = LowerBound(SCALE_BOUND)
        self.lower_bound_zero = LowerBound(0.0)
        # of the negated values: the published coder's table numbers end at 99 and 255
        self.upper_bound_mean = LowerBound(-99.0)
        self.upper_bound_scale = LowerBound(-255.0)


class GaussianConditional(nn.Module):
    """Likelihoods of y under Gaussians integrated over each integer's unit interval.

    training_bound: the least scale in training mode, where it is not that of evaluation.
    """

    def __init__(self):
        super().__init__()
        self._entropy_model = _GaussianBuffers()
        self.training_bound = SCALE_BOUND

    def forward(self, y: Tensor, means: Tensor, scales: Tensor) -> Tensor:
        """P(y) = Phi((0.5 - |y - mean|) / s) - Phi((-0.5 - |y - mean|) / s), of y's shape.

        s = max(scale, 0.01), or `training_bound` in training, and P is at least 1e-9, both with the
        gradient of CompressAI's LowerBound.
        """
        scales = lower_bound(scales, self.training_bound if self.training else SCALE_BOUND)
        distance = torch.abs(y - means)
        upper = _normal_cdf((0.5 - distance) / scales)
        lower = _normal_cdf((-0.5 - distance) / scales)
        return lower_bound(upper - lower, LIKELIHOOD_BOUND)


def _normal_cdf(x: Tensor) -> Tensor:
    return 0.5 * torch.erfc(x * -math.sqrt(0.5))
