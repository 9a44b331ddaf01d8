"""Tables and data that the tests of the entropy coder share."""

import numpy as np
import torch

from flic_kernels import rans


def small_tables():
    """Few tables of every kind: one symbol, binary, flat, skewed, wide, escapes only, likely.
    No library function takes part in their numbers: golden streams depend on them."""
    wide = 1 / (1 + (np.arange(-400, 401) / 64.0) ** 2)
    rows = [
        [1.0],
        [0.5, 0.5],
        np.full(16, 1 / 16),
        np.ldexp(1.0, -np.arange(1, 12)),
        wide / wide.sum(),
        [],
        [0.01, 0.01],
    ]
    return rans.Tables.from_pmfs([np.array(row) for row in rows], [0, -1, -8, 0, -400, 0, 5])


def draw(tables, count, seed, uniform=0.02):
    """Symbols drawn from tables that are drawn at random, some of them any int32."""
    rng = np.random.default_rng(seed)
    indexes = rng.integers(0, len(tables), count)
    symbols = np.empty(count, np.int64)
    for t in np.unique(indexes):
        where = np.flatnonzero(indexes == t)
        frequencies = tables.frequencies[tables.first[t] : tables.first[t + 1]]
        drawn = rng.choice(len(frequencies), len(where), p=frequencies / frequencies.sum())
        symbols[where] = drawn + tables.minimum[t]
    anywhere = rng.random(count) < uniform
    symbols[anywhere] = rng.integers(-(2**31), 2**31, anywhere.sum())
    return torch.from_numpy(symbols.astype(np.int32)), torch.from_numpy(indexes.astype(np.int32))


def latents(count, seed, rate=0.0, spread=1.5):
    """FLIC-like data: (y, means, scales) with log-normal scales around exp(rate)."""
    generator = torch.Generator().manual_seed(seed)
    scales = torch.exp(spread * torch.randn(count, generator=generator) + rate)
    means = torch.randn(count, generator=generator) * (scales + 0.3)
    noise = torch.randn(count, generator=generator)
    return (means + scales * noise).round().int(), means, scales
