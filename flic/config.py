"""Configurations of the FLIC model: the published one, a small one, and what makes one valid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from numbers import Real
from typing import Any

from .errors import OptionError

TCA_HEADS = 16
TCA_WINDOW = 8
STRIDE = 128  # a padded picture's sides are multiples of this; z lies at 1/64
MOST = {
    "widths": 2048, "heads": 512, "latent": 2048, "hyper": 2048,
    "slices": 255, "ratio": 16, "depth": 64,
}  # fmt: skip
"""The greatest values of a configuration: far beyond the published ones, and none absurd."""


DTYPES = ("float32", "bfloat16")
"""What g_a and g_s can compute in, by name."""


def check_dtype(name: str) -> None:
    """Raise OptionError unless g_a and g_s can compute in what the name stands for."""
    if name not in DTYPES:
        raise OptionError(f"unknown dtype {name!r} (known: {', '.join(DTYPES)})")


@dataclass(frozen=True)
class Config:
    """Widths and depths of a FLIC model; ValueError on what no model can have.

    Attributes:
        widths: channels at 1/2, 1/4 and 1/8 of the picture's resolution.
        heads: attention heads at these widths, multiples of 4 that divide them.
        latent: channels of y, at 1/16.
        hyper: channels of z, at 1/64.
        slices: number of channel slices of y that T-CA codes one after the other.
        ratio: T-CA's inner channels for each channel of y.
        depth: T-CA's layers.
    """

    widths: tuple[int, int, int] = (96, 144, 256)
    heads: tuple[int, int, int] = (8, 16, 32)
    latent: int = 320
    hyper: int = 192
    slices: int = 5
    ratio: int = 4
    depth: int = 12

    def __post_init__(self):
        for name, most in MOST.items():
            value = getattr(self, name)
            if name in ("widths", "heads"):
                value = tuple(_integer(name, each, most) for each in value)
            else:
                value = _integer(name, value, most)
            object.__setattr__(self, name, value)
        if len(self.widths) != 3 or len(self.heads) != 3:
            raise ValueError("a configuration has three widths and three numbers of heads")
        for width, heads in zip(self.widths, self.heads, strict=True):
            if heads < 4 or heads % 4 or width % heads:
                raise ValueError(f"heads must be a multiple of 4 that divides {width}, not {heads}")
        if self.latent % self.slices:
            raise ValueError(
                f"{self.latent} latent channels do not split into {self.slices} slices"
            )
        if self.latent // self.slices * self.ratio % TCA_HEADS:
            raise ValueError(
                f"a slice's {self.latent // self.slices} channels times ratio {self.ratio} must be "
                f"a multiple of T-CA's {TCA_HEADS} heads"
            )

    @property
    def slice_channels(self) -> int:
        """Channels of y in one slice."""
        return self.latent // self.slices

    @property
    def name(self) -> str:
        """The configuration's name, or "custom"."""
        return next((name for name, known in CONFIGS.items() if known == self), "custom")

    def to_dict(self) -> dict:
        """Plain values, for a file's metadata."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}


def _integer(name: str, value: Any, most: int) -> int:
    """A field's value; ValueError unless it is an integer from 1 to `most`."""
    if not isinstance(value, Real) or value != value // 1 or not 1 <= value <= most:
        raise ValueError(f"{name} must be integers from 1 to {most}, not {value!r}")
    return int(value)


CONFIGS = {
    "base": Config(),
    "tiny": Config(
        widths=(24, 48, 56), heads=(4, 4, 8), latent=64, hyper=32, slices=4, ratio=4, depth=4
    ),
    "small": Config(
        widths=(16, 48, 80), heads=(4, 4, 8), latent=192, hyper=24, slices=6, ratio=2, depth=3
    ),
}


def resolve(config: Config | dict | str) -> Config:
    """A configuration from its name, its fields or itself; ValueError names the known ones."""
    if isinstance(config, Config):
        return config
    if isinstance(config, dict):
        known = [field.name for field in fields(Config)]
        if unknown := [str(name) for name in config if name not in known]:
            raise ValueError(
                f"a configuration has no {', '.join(unknown)} (known: {', '.join(known)})"
            )
        return Config(**config)
    if config not in CONFIGS:
        raise ValueError(f"unknown configuration {config!r} (known: {', '.join(CONFIGS)})")
    return CONFIGS[config]


PUBLISHED = {
    "config": ((2, 2, 2, 2, 2, 2),),
    "N": (192, (96, 144, 256)),
    "M": (320,),
    "num_slices": (5,),
    "head_dim": ((8, 16, 32, 32, 16, 8), (12, 9, 8, 8, 9, 12)),
}
"""What the published class's arguments may be here: the network is the base configuration alone.

config: FAT blocks of the six stages of g_a and g_s. N: channels of z, or the widths. head_dim: the
stages' heads, or channels of a head.
"""


def resolve_published(config: Config | dict | str | Sequence[int], **arguments: object) -> Config:
    """A configuration as for `resolve`, or from the published class's arguments.

    config: also its list of FAT blocks a stage. arguments: N, M, num_slices, head_dim; None where
    not given.
    Raises OptionError where these have not the published values.
    """
    given = {name: value for name, value in arguments.items() if value is not None}
    if isinstance(config, (list, tuple)):
        given, config = {"config": config, **given}, "base"
    for name, value in given.items():
        plain = tuple(value) if isinstance(value, (list, tuple)) else value
        if plain not in PUBLISHED[name]:
            known = " or ".join(repr(v) for v in PUBLISHED[name])
            raise OptionError(
                f"{name}={value!r}: the published network has {known}; other sizes are a Config's "
                "(flic.FLIC(flic.Config(...)))"
            )
    config = resolve(config)
    if given and config != CONFIGS["base"]:
        raise OptionError(
            f"{', '.join(given)} describe the published network, not configuration {config.name!r}"
        )
    return config
