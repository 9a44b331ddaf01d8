"""A FLIC module's engine, made once and kept.

It runs on the model's device; where the CUDA part of flic_kernels is not built, on the CPU.
"""

from __future__ import annotations

import functools
import warnings
import weakref
from typing import TYPE_CHECKING

import torch

from flic_kernels import native

from ..errors import CheckpointError
from .entropy_engine import Engine, build_from

if TYPE_CHECKING:
    from ..model.network import FLIC

_PARTS = ("h_mean_s", "h_scale_s", "tca", "entropy_bottleneck")
# Not on the model: native handles cannot be copied with it. Two threads may both make one; they are
# equal, and one stays.
_kept = weakref.WeakKeyDictionary()


def engine_of(model: FLIC) -> Engine:
    """The model's engine, on its device, the instruction set in use and torch's threads.

    It is kept, and rebuilt when one of these or the weights have changed. Warns once a process
    where a model on a CUDA device is coded on the CPU.

    Raises:
        CheckpointError: the weights are not finite float32 numbers.
    """
    place = _place(_device_of(model))
    threads = min(torch.get_num_threads(), native.MAX_THREADS)
    key = (*place.values(), native.isa(), threads, *_content(model))
    kept = _kept.get(model)
    if kept is None or kept[0] != key:
        place.setdefault("isa", native.isa())
        engine = build(model, threads=threads, **place)
        kept = _kept[model] = (key, engine)
    return kept[1]


def _content(model: FLIC) -> list[int]:
    """A sum over each parameter's bits: tensors' own version counters miss writes to `.data`."""
    parameters = [p.detach() for name in _PARTS for p in getattr(model, name).parameters()]
    if any(p.dtype != torch.float32 for p in parameters):
        raise CheckpointError("these weights cannot code: h_mean_s, h_scale_s and tca take float32")
    sums = [p.contiguous().view(torch.int32).sum(dtype=torch.int64) for p in parameters]
    return torch.stack(sums).tolist()


def _device_of(model: FLIC) -> torch.device:
    return next(model.tca.parameters()).device


def _place(device: torch.device) -> dict[str, str | int | None]:
    """ExactEngine's `isa` and `device` for a model on `device`; empty for the CPU."""
    if device.type != "cuda":
        return {}
    try:
        native.cuda_library()
    except native.NativeLibraryMissing as missing:
        _warn_once(f"the CPU codes for a model on a CUDA device, with the same files: {missing}")
        return {}
    return {"isa": "cuda", "device": device.index}


@functools.cache
def _warn_once(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=2)


def build(model: FLIC, **options) -> Engine:
    """A new engine for the model's present weights; the options are `ExactEngine`'s.

    Raises:
        CheckpointError: the weights are not finite float32 numbers.
    """
    return build_from(torch.nn.Module.state_dict(model), **options)
