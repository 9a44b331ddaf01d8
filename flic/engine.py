"""What coding needs of a model: its exact engine and z's tables, made once and kept.

Means and scales come from the exact engine (docs/exact.md), never from the model's own operations,
so a stream decodes on every machine, whatever computed it.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from flic_kernels import rans
from flic_kernels.exact import ExactEngine

from . import zprior
from .errors import CheckpointError

if TYPE_CHECKING:
    from .model import FLIC

_PARTS = ("h_mean_s", "h_scale_s", "tca", "entropy_bottleneck")
_kept = weakref.WeakKeyDictionary()  # not on the model: native handles cannot be copied with it


@dataclass(frozen=True)
class Engine:
    """networks: the exact h_mean_s, h_scale_s and T-CA. z_tables: one table a channel of z.

    medians: float32 [N, 1, 1] on the CPU, about which z is rounded.
    """

    networks: ExactEngine
    z_tables: rans.Tables
    medians: Tensor


def engine_of(model: FLIC) -> Engine:
    """The model's engine, rebuilt when its weights or torch's number of threads have changed.

    Raises:
        CheckpointError: the weights are not finite float32 numbers.
    """
    parameters = [p for name in _PARTS for p in getattr(model, name).parameters()]
    key = (torch.get_num_threads(), *((p.data_ptr(), p._version, p.dtype) for p in parameters))
    kept = _kept.get(model)
    if kept is None or kept[0] != key:
        kept = _kept[model] = (key, _build(model))
    return kept[1]


def _build(model: FLIC) -> Engine:
    prior = model.entropy_bottleneck
    medians = prior.quantiles[:, 0, 1].detach().cpu()
    try:
        networks = ExactEngine(model.state_dict(), threads=torch.get_num_threads())
        rows, firsts = zprior.probabilities(
            _double(medians),
            *(
                [_double(p) for p in group]
                for group in (prior.matrices, prior.biases, prior.factors)
            ),
        )
        tables = rans.Tables.from_pmfs(rows, firsts)
    except ValueError as error:
        raise CheckpointError(f"these weights cannot code: {error}") from error
    return Engine(networks, tables, medians[:, None, None])


def _double(parameter: Tensor):
    return parameter.detach().cpu().to(torch.float64).numpy()
