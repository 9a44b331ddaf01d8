"""What coding needs of a model: its exact engine and z's tables. Needs no torch.

Means and scales come from the exact engine (docs/exact.md), never from the model's own operations,
so a stream decodes on every machine, whatever computed it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from flic_kernels import rans
from flic_kernels.exact import ExactEngine

from ..errors import CheckpointError
from . import z_prior


@dataclass(frozen=True)
class Engine:
    """networks: the exact h_mean_s, h_scale_s and T-CA. z_tables: one table a channel of z.

    medians: float32 [N, 1, 1], about which z is rounded.
    """

    networks: ExactEngine
    z_tables: rans.Tables
    medians: np.ndarray


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

    try:
        networks = ExactEngine(weights, isa=isa, threads=threads, device=device)
        tables, medians = z_prior.build(weights)
    except ValueError as error:
        raise CheckpointError(f"these weights cannot code: {error}") from error
    return Engine(networks, tables, medians)
