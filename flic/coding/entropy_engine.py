"""What coding needs of a model: its exact engine and z's tables. Needs no torch.

Means and scales come from the exact engine (docs/exact.md), never from the model's own operations,
so a stream decodes on every machine, whatever computed it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from flic_kernels import native, rans
from flic_kernels.exact import ExactEngine

from ..errors import CheckpointError
from . import z_prior

_LAYERS = 5  # of z's prior


@dataclass(frozen=True)
class Engine:
    """networks: the exact h_mean_s, h_scale_s and T-CA. z_tables: one table a channel of z.

    medians: float32 [N, 1, 1], about which z is rounded.
    """

    networks: ExactEngine
    z_tables: rans.Tables
    medians: np.ndarray


@native.default_float_environment()
def build_from(
    weights: Mapping[str, Any],
    *,
    isa: str | None = None,
    threads: int | None = None,
    device: int | None = None,
) -> Engine:
    """An engine of a state dict (published names), of arrays or tensors.

    The options are `ExactEngine`'s. Raises CheckpointError: the weights are not finite float32
    numbers.
    """

    def double(name: str) -> np.ndarray:
        value = weights[f"entropy_bottleneck.{name}"]
        value = value if isinstance(value, np.ndarray) else value.detach().cpu().numpy()
        return value.astype(np.float64)

    medians = double("quantiles")[:, 0, 1]
    try:
        networks = ExactEngine(weights, isa=isa, threads=threads, device=device)
        rows, firsts = z_prior.probabilities(
            medians,
            [double(f"matrices.{i}") for i in range(_LAYERS)],
            [double(f"biases.{i}") for i in range(_LAYERS)],
            [double(f"factors.{i}") for i in range(_LAYERS - 1)],
        )
        tables = rans.Tables.from_pmfs(rows, firsts)
    except ValueError as error:
        raise CheckpointError(f"these weights cannot code: {error}") from error
    return Engine(networks, tables, medians.astype(np.float32)[:, None, None])
