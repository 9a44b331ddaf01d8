"""What coding needs of a model: its exact engine and z's tables, made once and kept.

Means and scales come from the exact engine (docs/exact.md), never from the model's own operations,
so a stream decodes on every machine, whatever computed it. It runs on the model's device; where the
CUDA part of flic_kernels is not built, on the CPU.
"""

from __future__ import annotations

import functools
import warnings
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from flic_kernels import native, rans
from flic_kernels.exact import MAX_THREADS, ExactEngine

from ..errors import CheckpointError
from . import z_prior

if TYPE_CHECKING:
    from ..model.network import FLIC

_PARTS = ("h_mean_s", "h_scale_s", "tca", "entropy_bottleneck")
# Not on the model: native handles cannot be copied with it. Two threads may both make one; they are
# equal, and one stays.
_kept = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class Engine:
    """networks: the exact h_mean_s, h_scale_s and T-CA. z_tables: one table a channel of z.

    medians: float32 [N, 1, 1], about which z is rounded.
    """

    networks: ExactEngine
    z_tables: rans.Tables
    medians: np.ndarray


def engine_of(model: FLIC) -> Engine:
    """The model's engine, on its device, the instruction set in use and torch's threads.

    It is kept, and rebuilt when one of these or the weights have changed. Warns once a process
    where a model on a CUDA device is coded on the CPU.

    Raises:
        CheckpointError: the weights are not finite float32 numbers.
    """
    place = _place(_device_of(model))
    threads = min(torch.get_num_threads(), MAX_THREADS)
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


@native.default_float_environment()
def build(
    model: FLIC,
    *,
    isa: str | None = None,
    threads: int | None = None,
    device: int | None = None,
) -> Engine:
    """A new engine for the model's present weights; the options are `ExactEngine`'s.

    Raises:
        CheckpointError: the weights are not finite float32 numbers.
    """
    prior = model.entropy_bottleneck
    medians = prior.quantiles[:, 0, 1].detach().cpu()
    try:
        networks = ExactEngine(model.state_dict(), isa=isa, threads=threads, device=device)
        rows, firsts = z_prior.probabilities(
            _double(medians),
            *(
                [_double(p) for p in group]
                for group in (prior.matrices, prior.biases, prior.factors)
            ),
        )
        tables = rans.Tables.from_pmfs(rows, firsts)
    except ValueError as error:
        raise CheckpointError(f"these weights cannot code: {error}") from error
    return Engine(networks, tables, medians.numpy().copy()[:, None, None])


def _double(parameter: Tensor):
    return parameter.detach().cpu().to(torch.float64).numpy()
