"""Custom kernels for the FLIC image codec: fused operations and a rANS entropy coder.

    from flic_kernels import rans, rans_batch    # the entropy coder
    from flic_kernels import exact               # the exact entropy engine
    from flic_kernels import native              # the native library: its instruction set

Everything loads on first use. The operations, `accelerate` and `restore` need torch, these modules
do not.
"""

import ast
import functools
import importlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .acceleration import accelerate as accelerate
    from .acceleration import restore as restore
    from .ops import *  # noqa: F403
    from .rans import batch as rans_batch  # noqa: F401

_MODULES = {"exact": "exact", "native": "native", "rans": "rans", "rans_batch": "rans.batch"}


@functools.cache
def _names_of_ops() -> tuple[str, ...]:
    """ops.__all__, read as type checkers read it: to import ops is to import torch."""
    source = Path(__file__).with_name("ops") / "__init__.py"
    for statement in ast.parse(source.read_text()).body:
        match statement:
            case ast.Assign(targets=[ast.Name(id="__all__")], value=names):
                return tuple(ast.literal_eval(names))
    raise ImportError(f"{source} has no __all__")


def __getattr__(name: str):
    if name in _MODULES:
        return importlib.import_module(f".{_MODULES[name]}", __name__)
    if name == "__all__":
        return [*_names_of_ops(), "accelerate", "restore", *_MODULES]
    if name in ("accelerate", "restore"):
        module = importlib.import_module(".acceleration", __name__)
    elif name in _names_of_ops():
        module = importlib.import_module(".ops", __name__)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = getattr(module, name)
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__getattr__("__all__")})
