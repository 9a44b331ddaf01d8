"""z's tables, computed by the native library to the same bits on every machine
(csrc/codec/z_prior.cpp; tests/helpers/z_prior_reference.py is the same in numpy)."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from flic_kernels import arrays, native, rans

_WIDTHS = (1, 3, 3, 3, 3, 1)  # of the prior's layers


def build(weights: Mapping[str, Any]) -> tuple[rans.Tables, np.ndarray]:
    """One table a channel of z, and the medians about which z is rounded, float32 [C, 1, 1].

    weights: a state dict (published names), of arrays or tensors. Raises ValueError: a parameter of
    the prior has the wrong shape or is not finite float32 numbers.
    """
    channels = len(weights["entropy_bottleneck.quantiles"])

    def parameter(name: str, *shape: int) -> np.ndarray:
        value = weights[f"entropy_bottleneck.{name}"]
        if tuple(value.shape) != (channels, *shape) or arrays.dtype(value) != "float32":
            raise ValueError(f"entropy_bottleneck.{name} must be float32 {(channels, *shape)}")
        return arrays.to_numpy(value)

    quantiles = parameter("quantiles", 1, 3)
    groups: dict[str, list[np.ndarray]] = {"matrices": [], "biases": [], "factors": []}
    for i, (inputs, outputs) in enumerate(pairwise(_WIDTHS)):
        groups["matrices"].append(parameter(f"matrices.{i}", outputs, inputs))
        groups["biases"].append(parameter(f"biases.{i}", outputs, 1))
        if i + 2 < len(_WIDTHS):
            groups["factors"].append(parameter(f"factors.{i}", outputs, 1))
    tables = rans.Tables.computed(
        "z's tables", native.library().flic_z_tables, channels, native.pointer(quantiles),
        *map(_pointers, groups.values()),
    )  # fmt: skip
    return tables, quantiles[:, :, 1:2].copy()


def _pointers(group: Sequence[np.ndarray]) -> ctypes.Array:
    return (ctypes.c_void_p * len(group))(*map(native.pointer, group))
