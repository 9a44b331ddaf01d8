"""Custom kernels for the FLIC image codec: fused operations and a rANS entropy coder."""

from .accelerate import accelerate, restore
from .ops import (
    NotAvailable,
    backends,
    frequency_modulation,
    fused_linear,
    gdn,
    positional_encoding,
    slice_attention,
    window_attention,
)

__all__ = [
    "NotAvailable",
    "accelerate",
    "backends",
    "frequency_modulation",
    "fused_linear",
    "gdn",
    "positional_encoding",
    "restore",
    "slice_attention",
    "window_attention",
]
