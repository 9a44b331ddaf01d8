"""The integers of tables in numpy: what csrc/rans/quantise.cpp and gaussian_tables.cpp compute.

float64 +, -, *, / and comparisons in a stated order (numpy's element-wise operations round each
one, its running totals go from left to right). It shares no code with them and agrees to the bit.
"""

from collections.abc import Sequence

import numpy as np

from .tables import TOTAL, Tables

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


def from_rows(rows: Sequence[np.ndarray], offsets: Sequence[int], **grid: np.ndarray) -> Tables:
    """Tables of rows of frequencies and their first symbols."""
    first = np.cumsum([0] + [len(row) for row in rows])
    return Tables(first, np.asarray(offsets), np.concatenate(rows), **grid)


def quantise(rows: Sequence[np.ndarray]) -> list[np.ndarray]:
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


def normal_cdf(t: np.ndarray) -> np.ndarray:
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
    for there in normal_cdf(-(steps * _BINARY_STEP)):
        if there * TOTAL < _LEAST_SLOTS:
            rows += [np.array([1.0])] * 2
            offsets += [0, 0]
        else:
            rows += [np.array([there, 1 - there]), np.array([1 - there, there])]
            offsets += [-1, 0]
    return rows, offsets


def gaussian_tables() -> Tables:
    """Tables of round(normal(mean, scale)) for gaussian_indexes: one for each cell of a grid of
    scale levels by fractions of the mean (cells that would differ by nothing share one)."""
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
    rows = quantise(rows)

    # Tables are numbered by the first cell that has them.
    sizes = [len(level) for level in chosen]
    chosen = np.concatenate(chosen)
    numbers, known, kept = np.zeros(len(rows), np.int64), {}, []
    for row in dict.fromkeys(chosen.tolist()):
        numbers[row] = known.setdefault((offsets[row], rows[row].tobytes()), len(known))
        if numbers[row] == len(kept):
            kept.append(row)
    return from_rows(
        [rows[row] for row in kept],
        [offsets[row] for row in kept],
        row_first=np.cumsum([0, *sizes[:-1]]),
        row_size=np.array(sizes),
        cells=numbers[chosen],
    )
