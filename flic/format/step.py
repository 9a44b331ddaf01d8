"""The quantisation step that a file carries (docs/format.md)."""

import struct

from ..errors import OptionError

STEPS = (1 / 64, 64.0)
"""The least and the greatest step."""


def float32(value: float) -> float:
    """The float32 next to a number."""
    return struct.unpack("<f", struct.pack("<f", value))[0]


def check_step(step: float, error: type[Exception] = OptionError) -> float:
    """The step as the float32 that a file carries; raises `error` where none carries it."""
    low, high = STEPS
    if not low <= step <= high:  # NaN neither
        raise error(f"a step must lie between 1/{1 / low:.0f} and {high:.0f}, not {step:g}")
    return float32(step)
