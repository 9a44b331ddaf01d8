"""Frequency tables of the entropy coder: exact integers, the same on every machine.

The native library computes them (csrc/rans/quantise.cpp, gaussian_tables.cpp) with integers and
with float64 +, -, *, / and comparisons in a stated order, which IEEE 754 rounds the same way
everywhere; no library exp, erf or sum takes part. tables_reference.py is the same in numpy.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from flic_kernels import arrays, native

if TYPE_CHECKING:
    from flic_kernels.arrays import Array

PRECISION = 15
TOTAL = 1 << PRECISION

_GRID = {"row_first": np.int32, "row_size": np.int32, "cells": np.uint16}
_DTYPES = {"first": np.int64, "minimum": np.int32, "frequencies": np.int32} | _GRID
_LEVELS = 121  # of scale in the Gaussian grid (csrc/rans/gaussian.h)


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
        missing = [name for name in _GRID if getattr(self, name) is None]
        if missing and len(missing) < len(_GRID):
            raise ValueError(f"tables: a grid needs {', '.join(_GRID)}, all three")
        for name, dtype in _DTYPES.items():
            if name not in missing:
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
        if len(self.row_first) != _LEVELS or len(self.row_size) != _LEVELS:
            raise ValueError(f"tables: row_first and row_size need {_LEVELS} levels each")
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
        return Tables, tuple(getattr(self, name) for name in _DTYPES)

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
        real = [not np.issubdtype(row.dtype, np.integer) for row in rows]
        quantised = iter(
            _quantise([row for row, is_real in zip(rows, real, strict=True) if is_real])
        )
        for t, row in enumerate(rows):
            if real[t]:
                rows[t] = next(quantised)
            else:
                rows[t] = np.append(row.astype(np.int64), TOTAL - int(row.sum()))
        first = np.cumsum([0] + [len(row) for row in rows])
        return cls(first, np.asarray(offsets), np.concatenate(rows))

    @classmethod
    def computed(cls, what: str, function: Callable[..., int], *arguments: object) -> Tables:
        """Tables from the integers that a C function gives, the last of whose arguments is a
        FlicTableRows**. what: the tables, named at the front of a message."""
        library = native.library()
        handle = ctypes.c_void_p()
        native.check(function(*arguments, ctypes.byref(handle)), what)
        pointers, sizes = (ctypes.c_void_p * len(_DTYPES))(), (ctypes.c_int64 * len(_DTYPES))()
        try:
            native.check(library.flic_rans_rows_arrays(handle, pointers, sizes), what)
            found = {
                name: np.frombuffer(ctypes.string_at(pointer, size), dtype)
                for (name, dtype), pointer, size in zip(
                    _DTYPES.items(), pointers, sizes, strict=True
                )
                if size
            }
        finally:
            library.flic_rans_rows_free(handle)
        return cls(**found)

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
    """Frequencies of rows of probabilities, each row's with the escape's appended."""
    sizes = np.array([len(row) for row in rows], np.int64)
    values = np.concatenate([np.zeros(0), *rows])
    if not np.all(np.isfinite(values)) or np.any(values < 0) or np.any(sizes >= TOTAL):
        raise ValueError("tables: probabilities must be finite and not negative, at most 32767")
    frequencies = np.empty(len(values) + len(rows), np.int32)
    native.check(
        native.library().flic_rans_quantise(
            len(rows), native.pointer(sizes), native.pointer(values), native.pointer(frequencies)
        ),
        "rANS tables",
    )
    return np.split(frequencies, np.cumsum(sizes + 1)[:-1])


@functools.cache
def gaussian_tables() -> Tables:
    """Tables of round(normal(mean, scale)) for gaussian_indexes: one for each cell of a grid of
    scale levels by fractions of the mean (cells that would differ by nothing share one), made once
    a process in a few milliseconds."""
    return Tables.computed("Gaussian tables", native.library().flic_rans_gaussian_tables)
