"""Probabilities of z's integers in numpy: what csrc/codec/z_prior.cpp computes, to the bit.

The factorised prior (Ballé et al., 2018, appendix 6.1) in float64 with nothing but IEEE additions,
multiplications and divisions in a fixed order (numpy's element-wise operations round each one),
from the float32 parameters.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from flic_kernels.rans import Tables
from flic_kernels.rans.tables_reference import from_rows, quantise

REACH = 255  # symbols beyond +-REACH about the median are escaped
TAIL = 2.0**-17  # and so are symbols beyond which less than this mass lies

Array = NDArray[np.float64]
_LN2 = 0.6931471805599453
_LN2_HIGH, _LN2_LOW = 0.693147180369123816490, 1.90821492927058770002e-10


def exp(x: Array) -> Array:
    """e ** x for |x| <= 700, to a few units in the last place."""
    n = np.rint(x * (1 / _LN2))
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW
    series = np.ones_like(r)
    for k in range(14, 0, -1):
        series = series * r / k + 1.0
    return np.ldexp(series, n.astype(np.int32))


def log(x: Array) -> Array:
    """The natural logarithm of x > 0: 2 atanh((m - 1) / (m + 1)) + e ln 2 for x = m 2^e."""
    mantissa, exponent = np.frexp(x)
    low = mantissa < 0.7071067811865476
    mantissa = np.where(low, mantissa * 2.0, mantissa)
    exponent = np.where(low, exponent - 1, exponent).astype(np.float64)
    s = (mantissa - 1.0) / (mantissa + 1.0)
    square, series = s * s, np.zeros_like(s)
    for k in range(25, 0, -2):
        series = series * square + 1.0 / k
    return 2.0 * s * series + exponent * _LN2


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x))."""
    return 1.0 / (1.0 + exp(-np.clip(x, -700.0, 700.0)))


def tanh(x: Array) -> Array:
    """2 sigmoid(2 x) - 1."""
    return 2.0 * sigmoid(2.0 * x) - 1.0


def softplus(x: Array) -> Array:
    """log(1 + exp(x)); x itself from 40 on."""
    return np.where(x > 40.0, x, log(1.0 + exp(np.minimum(x, 40.0))))


def cumulative_logits(
    x: Array, matrices: list[Array], biases: list[Array], factors: list[Array]
) -> Array:
    """Logits of the cumulative distribution at x [C, L], by the parameters [C, out, in] of each."""
    layer = [x]
    for i, (matrix, bias) in enumerate(zip(matrices, biases, strict=True)):
        weight = softplus(matrix)
        outputs = []
        for row in range(matrix.shape[1]):
            total = np.zeros_like(x)
            for column, value in enumerate(layer):
                total = total + weight[:, row, column, None] * value
            total = total + bias[:, row]
            if i < len(factors):
                total = total + tanh(factors[i][:, row]) * tanh(total)
            outputs.append(total)
        layer = outputs
    return layer[0]


def probabilities(
    medians: Array, matrices: list[Array], biases: list[Array], factors: list[Array]
) -> tuple[list[Array], list[int]]:
    """Probabilities of the integers about each channel's median.

    Args:
        medians: [C]; z is coded as round(z - median).
        matrices, biases, factors: the prior's parameters, float64 copies of the float32 ones.

    Returns:
        for each channel the probabilities of consecutive integers, and the first of them. What they
        lack to one is the mass that is escaped.
    """
    edges = np.arange(-REACH, REACH + 2, dtype=np.float64) - 0.5
    cdf = sigmoid(cumulative_logits(medians[:, None] + edges, matrices, biases, factors))
    rows, firsts = [], []
    for row in cdf:
        inside = np.flatnonzero((row[1:] > TAIL) & (row[:-1] < 1.0 - TAIL))
        first, last = (inside[0], inside[-1]) if len(inside) else (REACH, REACH)
        rows.append(np.maximum(np.diff(row[first : last + 2]), 0.0))
        firsts.append(int(first) - REACH)
    return rows, firsts


def tables(weights: Mapping[str, NDArray[np.float32]]) -> Tables:
    """One table a channel, of a state dict. Raises ValueError where a probability is NaN."""

    def double(name: str) -> Array:
        return weights[f"entropy_bottleneck.{name}"].astype(np.float64)

    rows, firsts = probabilities(
        double("quantiles")[:, 0, 1],
        [double(f"matrices.{i}") for i in range(5)],
        [double(f"biases.{i}") for i in range(5)],
        [double(f"factors.{i}") for i in range(4)],
    )
    return from_rows(quantise(rows), firsts)
