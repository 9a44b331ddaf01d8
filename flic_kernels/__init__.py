"""Custom kernels for the FLIC image codec: fused operations and a rANS entropy coder.

    from flic_kernels import rans, rans_batch    # the entropy coder
    from flic_kernels import exact               # the exact entropy engine
    from flic_kernels import native              # the native library: its instruction set

These modules load on first use, and the native library when something needs it.
"""

import importlib

from . import ops
from .accelerate import accelerate, restore
from .ops import *  # noqa: F403

_MODULES = {"exact": "exact", "native": "native", "rans": "rans", "rans_batch": "rans.batch"}

__all__ = [*ops.__all__, "accelerate", "restore", *_MODULES]  # noqa: PLE0604


def __getattr__(name: str):
    if name in _MODULES:
        return importlib.import_module(f".{_MODULES[name]}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
