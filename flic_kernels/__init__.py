"""Custom kernels for the FLIC image codec: fused operations and a rANS entropy coder.

    from flic_kernels import rans, rans_batch    # the entropy coder
    from flic_kernels import exact               # the exact entropy engine
    from flic_kernels import native              # the native library: its instruction set

These modules load on first use, and the native library when something needs it.
"""

import importlib

from .accelerate import accelerate, restore
from .ops import (
    NotAvailable,
    backends,
    conv3x3,
    fat_block,
    frequency_modulation,
    fused_linear,
    gdn,
    positional_encoding,
    slice_attention,
    use,
    window_attention,
)

_MODULES = ("exact", "native", "rans", "rans_batch")

__all__ = [
    "NotAvailable",
    "accelerate",
    "backends",
    "conv3x3",
    "exact",
    "fat_block",
    "frequency_modulation",
    "fused_linear",
    "gdn",
    "native",
    "positional_encoding",
    "rans",
    "rans_batch",
    "restore",
    "slice_attention",
    "use",
    "window_attention",
]


def __getattr__(name: str):
    if name in _MODULES:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
