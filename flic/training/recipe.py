"""What a training run does: FLIC's own recipe, the published one, and what may be changed."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from ..config import resolve
from ..format.step import STEPS
from ..model.hyperprior import SCALE_BOUND

LAMBDAS = {
    "mse": (0.0018, 0.0035, 0.0067, 0.0130, 0.0250, 0.0483),
    "ms-ssim": (2.40, 4.58, 8.73, 16.64, 31.73, 60.50),
}
"""The published weights of the distortion by metric, for qualities 1 to 6."""
PUBLISHED = {
    "lmbda": 0.01,
    "epochs": 100,
    "ema": 0.0,
    "plateau_every": 5000,
    "published_validation": True,
    "plain_start": True,
}
"""What the published recipe has in place of `Recipe`'s defaults."""
FAST = {
    "config": "small",
    "lmbda": 0.0067,
    "batch": 4,
    "crop": 256,
    "flip": True,
    "by_area": True,
    "lr": 1e-3,
    "warmup": 20,
    "clip": 0.0,
    "ema": 0.997,
    "optimizer": "muon",
    "schedule": "linear",
    "scale_bound": 0.11,
    "linear_start": True,
    "entropy_first": 200,
    "variable": True,
}
"""What the recipe for little compute has in place of `Recipe`'s defaults (docs/training.md)."""
OPTIMIZERS, SCHEDULES = ("adam", "muon"), ("cosine", "linear", "constant")
DTYPES = ("float32", "bfloat16")
_BEYOND = 1.6
MS_SSIM_SIDE = 161
"""Least side in pixels of a picture that has an MS-SSIM: 11 x 11 windows at five scales."""


def published_lambda(metric: str, quality: int) -> float:
    """The published lambda of a metric and quality; ValueError names what there is."""
    if metric not in LAMBDAS:
        raise ValueError(f"no metric {metric!r} (there are {', '.join(LAMBDAS)})")
    if not 1 <= quality <= len(LAMBDAS[metric]):
        raise ValueError(f"published qualities are 1 to {len(LAMBDAS[metric])}, not {quality}")
    return LAMBDAS[metric][quality - 1]


@dataclass(frozen=True)
class Recipe:
    """All that decides what a training run computes, beside its pictures.

    Exactly one of `epochs` and `steps` is given. With `epochs` the learning rate falls by `factor`
    where the validation loss has not improved for `patience` validations; with `steps` it rises
    linearly for `warmup` steps and then goes as `schedule` says.

    Attributes:
        config: the model's configuration: its name, or the fields of a `flic.config.Config`.
        metric: "mse" (loss = lambda 255^2 MSE + bits a pixel) or "ms-ssim" (lambda (1 - MS-SSIM)
            + bits a pixel).
        lmbda: weight of the distortion.
        epochs, steps: how long: passes over the pictures, or optimiser steps.
        batch: pictures a step, over all processes.
        crop: their side in pixels; one that is no multiple of 128 is padded to one.
        flip: mirror every other crop.
        by_area: a picture of n times the crop's area comes round(sqrt(n)) times an epoch, not once.
        lr, aux_lr: learning rates (at the peak) of the network and of the quantiles of z's prior.
        warmup, patience, factor: of the schedules, see above.
        schedule: with `steps`: "cosine" falls to a hundredth, "linear" stays for a quarter of the
            run and falls to 0, "constant" stays.
        optimizer: "adam", or "muon" for matrices beside Adam (flic/training/optimizers.py).
        scale_bound: the least scale of y's Gaussians in training.
        variable: each sample draws a quantisation step, uniform in its logarithm from `finest` to
            `coarsest`, and lambda and loss follow it (`rate_distortion`): one model, any rate.
        balance: how much less pictures count that cost much (`rate_distortion`), 0 to 1.
        linear_start: random first weights are a linear transform codec (flic/training/start.py).
        entropy_first: steps that the entropy model then trains alone, before the first of the run.
        clip: bound on the gradient's norm; 0 for none.
        ema: decay of the averaged weights, which are validated and saved; 0 for no averaging.
        dtype: "float32", or "bfloat16" for g_a and g_s (the weights stay float32).
        seed: of first weights, order, crops and noise.
        start: fingerprint of the weights that training started from; None for random ones.
        plateau_every: steps between two validations of a run by epochs; None for one an epoch.
        published_validation: validate on the central crop of each picture, `crop` pixels a side,
            and take PSNR and MS-SSIM of the network's output before it is rounded to 8 bits.
        plain_start: random first weights have bias tables of exactly 0 and modulations of exactly
            1, not values around these.
    """

    config: str | dict = "base"
    metric: str = "mse"
    lmbda: float = 0.013
    epochs: int | None = None
    steps: int | None = None
    batch: int = 16
    crop: int = 256
    flip: bool = False
    by_area: bool = False
    lr: float = 1e-4
    aux_lr: float = 1e-3
    warmup: int = 100
    patience: int = 16
    factor: float = 0.3
    clip: float = 1.0
    ema: float = 0.999
    dtype: str = "float32"
    seed: int = 0
    start: str | None = None
    plateau_every: int | None = None
    published_validation: bool = False
    plain_start: bool = False
    schedule: str = "cosine"
    optimizer: str = "adam"
    scale_bound: float = SCALE_BOUND
    variable: bool = False
    finest: float = 0.4
    coarsest: float = 2.5
    balance: float = 0.0
    linear_start: bool = False
    entropy_first: int = 0

    def __post_init__(self):
        resolve(self.config)
        for name, known in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES)):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"no {name} {getattr(self, name)!r} (there are {', '.join(known)})"
                )
        if self.variable and self.metric != "mse":
            raise ValueError("variable rates are trained for MSE: lambda follows the step by it")
        if not STEPS[0] <= self.finest < self.coarsest <= STEPS[1]:
            raise ValueError(
                f"finest and coarsest must rise within {STEPS[0]:g} to {STEPS[1]:g}, not "
                f"{self.finest:g} to {self.coarsest:g}"
            )
        if self.entropy_first and not self.linear_start:
            raise ValueError("the entropy model trains first only after a linear start")
        if self.metric not in LAMBDAS:
            raise ValueError(f"no metric {self.metric!r} (there are {', '.join(LAMBDAS)})")
        if self.dtype not in DTYPES:
            raise ValueError(f"training runs in {' or '.join(DTYPES)}, not {self.dtype!r}")
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("a run lasts a number of epochs or of steps: give one of the two")
        if self.plateau_every is not None and self.epochs is None:
            raise ValueError("a rate that falls on plateaus needs epochs, not steps")
        for name in ("epochs", "steps", "batch", "crop", "plateau_every"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in (
            "lmbda",
            "lr",
            "aux_lr",
            "clip",
            "warmup",
            "patience",
            "scale_bound",
            "entropy_first",
        ):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} must be a number of at least 0, not {value}")
        if not 0 <= self.balance <= 1:
            raise ValueError(f"balance must lie between 0 and 1, not {self.balance}")
        if not 0 < self.factor < 1:
            raise ValueError(f"factor must lie between 0 and 1, not {self.factor}")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema must be at least 0 and under 1, not {self.ema}")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed must be at least 0 and under 2^63, not {self.seed}")
        if self.metric == "ms-ssim" and self.crop < MS_SSIM_SIDE:
            raise ValueError(
                f"MS-SSIM needs crops of at least {MS_SSIM_SIDE} pixels, not {self.crop}"
            )

    @property
    def validated_steps(self) -> tuple[float, ...]:
        """The quantisation steps that a run is validated at."""
        if not self.variable:
            return (1.0,)
        middle = math.sqrt(self.finest * self.coarsest)
        return self.finest, middle, self.coarsest

    @property
    def quality_steps(self) -> str:
        """The steps of qualities 0 and 100 of a model with variable rates: beyond those trained."""
        low, high = self.finest / _BEYOND, self.coarsest * _BEYOND
        return f"{min(high, STEPS[1]):g} {max(low, STEPS[0]):g}"

    def to_dict(self) -> dict:
        """Plain values, for JSON and checkpoints."""
        return asdict(self)
