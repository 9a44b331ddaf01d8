"""Frequency tables of the entropy coder: exact integers, the same on every machine.

Everything here is computed with integers and with float64 +, -, *, / and comparisons in a stated
order, which IEEE 754 rounds the same way everywhere; no library exp, erf or sum takes part.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from flic_kernels import arrays, native

if TYPE_CHECKING:
    from flic_kernels.arrays import Array

PRECISION = 15
TOTAL = 1 << PRECISION

# The Gaussian grid (csrc/rans/gaussian.h): scale levels, eight an octave from 2^-7 to 2^8, and one
# for all that is above.
_FIRST_OCTAVE, _END_OCTAVE = -7, 8
_STEPS = 8
# A fraction cell is at most this part of the smallest scale of its octave.
_CELLS_PER_SCALE = 8
# Below this octave a table depends on one number: the distance to the nearest half, in scales.
_BINARY_OCTAVE = -3
_BINARY_STEP = 1 / 16
_REACH = 6.0  # what is farther away, in scales, counts as so far
# A symbol is in a table where its probability is at least this many slots; else it is escaped.
_LEAST_SLOTS = 0.2


@dataclass(frozen=True, eq=False)
class Tables:
    """Integer frequency tables.

    Table t codes the symbols minimum[t] .. minimum[t] + n - 1 with the frequencies
    frequencies[first[t] : first[t] + n], and everything else through its last frequency, the
    escape's. The frequencies of a table are at least 1 and add up to 2**15.

    first: int64 [tables + 1]; minimum: int32 [tables]; frequencies: int32 [first[-1]].
    row_first, row_size: int32 [levels], cells: uint16, the grid by which gaussian_indexes finds
    tables (None where the tables are no Gaussian ones).
    Raises ValueError where the arrays do not form tables or a grid, or a symbol does not fit int16.
    Copies are the object itself; pickling takes the integers along.
    """

    first: np.ndarray
    minimum: np.ndarray
    frequencies: np.ndarray
    row_first: np.ndarray | None = None
    row_size: np.ndarray | None = None
    cells: np.ndarray | None = None
    handle: ctypes.c_void_p = field(init=False, repr=False)

    def __post_init__(self):
        arrays = {"first": np.int64, "minimum": np.int32, "frequencies": np.int32}
        grid = {"row_first": np.int32, "row_size": np.int32, "cells": np.uint16}
        missing = [name for name in grid if getattr(self, name) is None]
        if missing and len(missing) < len(grid):
            raise ValueError(f"tables: a grid needs {', '.join(grid)}, all three")
        if not missing:
            arrays |= grid
        for name, dtype in arrays.items():
            object.__setattr__(self, name, _integers(name, getattr(self, name), dtype))
        first = self.first
        if len(first) != len(self.minimum) + 1 or first[0] != 0:
            raise ValueError("tables: first needs one entry more than minimum, and starts at 0")
        if np.any(first[1:] <= first[:-1]) or first[-1] != len(self.frequencies):
            raise ValueError("tables: first must ascend to the number of frequencies")
        if not missing:
            self._check_grid()
        library = native.library()
        handle = ctypes.c_void_p()
        native.check(
            library.flic_rans_tables_new(
                len(self),
                native.pointer(self.first),
                native.pointer(self.minimum),
                native.pointer(self.frequencies),
                ctypes.byref(handle),
            ),
            "rANS tables",
        )
        object.__setattr__(self, "handle", handle)
        native.free_with(self, library.flic_rans_tables_free, handle)

    def _check_grid(self):
        """The native code trusts what this accepts."""
        levels = _STEPS * (_END_OCTAVE - _FIRST_OCTAVE) + 1
        if len(self.row_first) != levels or len(self.row_size) != levels:
            raise ValueError(f"tables: row_first and row_size need {levels} levels each")
        if self.row_first.min() < 0 or self.row_size.min() < 1:
            raise ValueError("tables: row_first must not be negative, row_size at least 1")
        if (self.row_first.astype(np.int64) + self.row_size).max() > len(self.cells):
            raise ValueError("tables: row_first + row_size must lie inside cells")
        if self.cells.max() >= len(self):
            raise ValueError("tables: a cell names none of the tables")

    # Tables never change, and the native ones have one owner.
    def __copy__(self) -> Tables:
        return self

    def __deepcopy__(self, memo: dict) -> Tables:
        return self

    def __reduce__(self):
        names = ("first", "minimum", "frequencies", "row_first", "row_size", "cells")
        return Tables, tuple(getattr(self, name) for name in names)

    def __len__(self) -> int:
        """The number of tables."""
        return len(self.minimum)

    @classmethod
    def from_pmfs(cls, pmfs: Sequence[np.ndarray], offsets: Sequence[int]) -> Tables:
        """Tables from explicit probabilities, one row a table.

        pmfs: 1-D rows. A float row holds probabilities of the symbols offsets[t], offsets[t] + 1,
        ...; what it lacks to 1 is the escape's (a row that adds up to more is normalised). An
        integer row holds frequencies out of 2**15, each at least 1, which leave at least 1 for
        the escape. offsets: each row's first symbol.
        """
        if len(pmfs) != len(offsets) or len(pmfs) == 0:
            raise ValueError("tables: as many offsets as rows of probabilities, at least one")
        rows = [np.asarray(row) for row in pmfs]
        if any(row.ndim != 1 for row in rows):
            raise ValueError("tables: a row of probabilities has one dimension")
        real = {
            t: row.astype(np.float64)
            for t, row in enumerate(rows)
            if not np.issubdtype(row.dtype, np.integer)
        }
        quantised = dict(zip(real, _quantise(list(real.values())), strict=True))
        for t, row in enumerate(rows):
            if t in real:
                rows[t] = quantised[t]
            else:
                rows[t] = np.append(row.astype(np.int64), TOTAL - int(row.sum()))
        return cls._from_rows(rows, offsets)

    @classmethod
    def _from_rows(cls, rows, offsets, **grid) -> Tables:
        first = np.cumsum([0] + [len(row) for row in rows])
        return cls(first, np.asarray(offsets), np.concatenate(rows), **grid)

    @functools.cached_property
    def padded_cells(self) -> np.ndarray:
        """cells with one element more, which vector loops may read."""
        return np.append(self.cells, np.uint16(0))

    @functools.cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256()
        arrays = [(self.first, "<i8"), (self.minimum, "<i4"), (self.frequencies, "<i4")]
        if self.cells is not None:
            arrays += [(self.row_first, "<i4"), (self.row_size, "<i4"), (self.cells, "<u2")]
        for array, dtype in arrays:
            digest.update(len(array).to_bytes(8, "little") + array.astype(dtype).tobytes())
        return digest.hexdigest()

    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, of all the integers: equal tables have equal fingerprints."""
        return self._fingerprint

    def bits(self, symbols: Array, indexes: Array) -> float:
        """What coding symbols with these table indexes costs, in bits: -log2 of the frequencies'
        share and the bytes of the escapes, without the stream's fixed parts."""
        symbols = arrays.to_numpy(symbols).astype(np.int64).ravel()
        indexes = arrays.to_numpy(indexes).astype(np.int64).ravel()
        if np.any((indexes < 0) | (indexes >= len(self))):
            raise IndexError("table index outside the tables")
        low = self.minimum[indexes].astype(np.int64)
        escape = (self.first[1:] - self.first[:-1] - 1)[indexes]
        k = symbols - low
        escaped = (k < 0) | (k >= escape)
        entry = self.first[indexes] + np.where(escaped, escape, k)
        bits = PRECISION * len(entry) - np.log2(self.frequencies[entry]).sum()
        over = np.where(k >= escape, 2 * (k - escape), -2 * k - 1)[escaped]
        code_bytes = sum((over >= 1 << (7 * i)).sum() for i in range(1, 5)) + len(over)
        return float(bits + 8 * code_bytes)

    def memory(self) -> tuple[int, int]:
        """Bytes of native tables that the encoder and the decoder read."""
        sizes = ctypes.c_int64(), ctypes.c_int64()
        native.check(
            native.library().flic_rans_tables_bytes(self.handle, *map(ctypes.byref, sizes)),
            "rANS tables",
        )
        return sizes[0].value, sizes[1].value


def _integers(name: str, values, dtype: type) -> np.ndarray:
    """A read-only copy [n] of integers that dtype can hold; raises ValueError for any others."""
    values = np.asarray(values)
    if values.ndim != 1:
        raise ValueError(f"tables: {name} must have one dimension, not {values.ndim}")
    if not np.issubdtype(values.dtype, np.integer):
        raise ValueError(f"tables: {name} must hold integers, not {values.dtype}")
    limits = np.iinfo(dtype)
    if len(values) and not limits.min <= int(values.min()) <= int(values.max()) <= limits.max:
        raise ValueError(f"tables: {name} does not fit {np.dtype(dtype)}")
    array = np.array(values, dtype=dtype)
    array.setflags(write=False)
    return array


def _quantise(rows: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Frequencies of rows of probabilities with the escape's appended: every one gets a slot, and
    the rest is shared out in proportion to what each lacks, rounding the running total."""
    lengths = np.array([len(row) for row in rows], np.int64)
    values = np.concatenate([np.zeros(0), *rows])
    if not np.all(np.isfinite(values)) or np.any(values < 0) or np.any(lengths >= TOTAL):
        raise ValueError("tables: probabilities must be finite and not negative, at most 32767")
    found: list[np.ndarray] = [np.zeros(0)] * len(rows)
    octaves = np.frexp(lengths)[1]
    for octave in np.unique(octaves):  # rows of similar length are a matrix, padded with zeros
        group = np.flatnonzero(octaves == octave)
        alike = _quantise_alike([rows[t] for t in group], lengths[group])
        for t, row in zip(group, alike, strict=True):
            found[t] = row
    return found


def _quantise_alike(rows: Sequence[np.ndarray], lengths: np.ndarray) -> list[np.ndarray]:
    """The same in one matrix, padded with zeros, of which a running total takes no notice."""
    matrix = np.zeros((len(rows), lengths.max() + 1))
    matrix[np.arange(matrix.shape[1]) < lengths[:, None]] = np.concatenate(rows)
    mass = np.cumsum(matrix, axis=1)[:, -1]
    matrix /= np.maximum(mass, 1)[:, None]
    matrix[np.arange(len(rows)), lengths] = 1 - np.minimum(mass, 1)
    running = np.cumsum(np.maximum(matrix * TOTAL - 1, 0), axis=1)
    # Where there are as many symbols as slots perhaps none lacks anything.
    share = running / np.where(running[:, -1] > 0, running[:, -1], 1)[:, None]
    ends = np.floor(share * (TOTAL - 1 - lengths)[:, None] + 0.5).astype(np.int64)
    frequencies = 1 + np.diff(ends, axis=1, prepend=0)
    return [row[: length + 1] for row, length in zip(frequencies, lengths, strict=True)]


def _exp_negative(a: np.ndarray) -> np.ndarray:
    """exp(-a) for 0 <= a <= 18: Taylor's series of exp(-a / 2^10), squared ten times."""
    x = a / 1024
    total = np.ones_like(x)
    for n in range(12, 0, -1):
        total = 1 - total * x / n
    for _ in range(10):
        total = total * total
    return total


def _normal_cdf(t: np.ndarray) -> np.ndarray:
    """The normal distribution function to about 1e-13: the series of odd double factorials, with
    arguments clipped to +-6, where it is within 1e-9 of its limits."""
    return 0.5 + _centred_cdf(t)


def _centred_cdf(t: np.ndarray) -> np.ndarray:
    """The same less a half: an odd function, bit for bit."""
    t = np.minimum(np.maximum(t, -_REACH), _REACH)
    square = t * t
    series = np.ones_like(t)
    for n in range(241, 1, -2):  # series = 1 + series * square / n, in place
        series *= square
        series /= n
        series += 1
    return t * series * _exp_negative(square / 2) * 0.3989422804014327


def _gaussian_rows(
    levels: Sequence[tuple[np.ndarray, float]],
) -> tuple[list[np.ndarray], list[int]]:
    """Probabilities and first symbols of round(fraction + scale * normal): for each level's
    (fractions, scale), for each fraction."""
    edges = []
    for fractions, scale in levels:
        reach = int(_REACH * scale) + 2
        edges.append((np.arange(-reach, reach + 2) - 0.5 - fractions[:, None]) / scale)
    halves = [part.ravel()[: part.size // 2] for part in edges]  # the others mirror them
    ends = np.cumsum([len(half) for half in halves])
    halves = np.split(_centred_cdf(np.concatenate(halves)), ends[:-1])
    rows, offsets = [], []
    for part, half in zip(edges, halves, strict=True):
        cdf = 0.5 + np.concatenate([half, -half[::-1]]).reshape(part.shape)
        pmfs = cdf[:, 1:] - cdf[:, :-1]
        kept = pmfs * TOTAL >= _LEAST_SLOTS
        first, beyond = kept.argmax(axis=1), kept.shape[1] - kept[:, ::-1].argmax(axis=1)
        rows += [pmf[i:j] for pmf, i, j in zip(pmfs, first, beyond, strict=True)]
        offsets += (first - (kept.shape[1] // 2)).tolist()
    return rows, offsets


def _binary_rows() -> tuple[list[np.ndarray], list[int]]:
    """The same for small scales, row 2 * steps + side: 0, or what begins `steps` binary steps
    away, -1 for side 0 and 1 for side 1."""
    steps = np.arange(int(_REACH / _BINARY_STEP) + 1)
    rows, offsets = [], []
    for there in _normal_cdf(-(steps * _BINARY_STEP)):
        if there * TOTAL < _LEAST_SLOTS:
            rows += [np.array([1.0])] * 2
            offsets += [0, 0]
        else:
            rows += [np.array([there, 1 - there]), np.array([1 - there, there])]
            offsets += [-1, 0]
    return rows, offsets


@functools.cache
def gaussian_tables() -> Tables:
    """Tables of round(normal(mean, scale)) for gaussian_indexes: one for each cell of a grid of
    scale levels by fractions of the mean (cells that would differ by nothing share one), built
    once a process in about a hundredth of a second."""
    rows, offsets = _binary_rows()
    wide, chosen = [], []  # levels of more than two symbols; each level's rows, a cell each
    count = len(rows)
    for octave in range(_FIRST_OCTAVE, _END_OCTAVE):
        base = 2.0**octave
        size = max(1, int(_CELLS_PER_SCALE / base))
        fractions = (np.arange(size) + 0.5) / size - 0.5
        for step in range(_STEPS):
            scale = base * (1 + (step + 0.5) / _STEPS)
            if octave < _BINARY_OCTAVE:
                distances = np.minimum((0.5 - np.abs(fractions)) / scale, _REACH)
                steps = (distances / _BINARY_STEP + 0.5).astype(np.int64)
                chosen.append(2 * steps + (fractions > 0))
            else:
                wide.append((fractions, scale))
                chosen.append(np.arange(count, count + size))
                count += size
    # Above the grid everything is escaped: a code of so many bytes is as good as a flat table.
    chosen.append(np.array([count]))
    for more, first in (_gaussian_rows(wide), ([np.zeros(0)], [0])):
        rows += more
        offsets += first
    rows = _quantise(rows)

    # Tables are numbered by the first cell that has them.
    sizes = [len(level) for level in chosen]
    chosen = np.concatenate(chosen)
    numbers, known, kept = np.zeros(len(rows), np.int64), {}, []
    for row in dict.fromkeys(chosen.tolist()):
        numbers[row] = known.setdefault((offsets[row], rows[row].tobytes()), len(known))
        if numbers[row] == len(kept):
            kept.append(row)
    return Tables._from_rows(
        [rows[row] for row in kept],
        [offsets[row] for row in kept],
        row_first=np.cumsum([0, *sizes[:-1]]),
        row_size=np.array(sizes),
        cells=numbers[chosen],
    )
