"""Tables: golden integers, the Gaussian grid, quantisation, table indexes."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from rans_cases import small_tables

from flic_kernels import native, rans
from flic_kernels.rans import tables_reference
from flic_kernels.rans.tables import PRECISION, TOTAL

GAUSSIAN_FINGERPRINT = "b9d0624756e582d8f0001a52cdc2eece308cead5554589f0961c9cc81ab27495"


def reference_index(mean, scale, tables):
    """The rule of docs/rans.md with comparisons against a list of thresholds."""
    thresholds = [2.0**octave * (1 + step / 8) for octave in range(-7, 8) for step in range(8)]
    thresholds.append(256.0)
    scale = min(max(np.float32(scale), np.float32(0.01)), np.float32(256))
    level = sum(scale >= t for t in thresholds) - 1
    mean = min(max(np.float32(mean), np.float32(-(2**20))), np.float32(2**20))
    center = np.rint(mean)
    size = int(tables.row_size[level])
    cell = math.floor((mean - center + np.float32(0.5)) * np.float32(size))
    return int(tables.cells[tables.row_first[level] + min(cell, size - 1)]), int(center)


def test_gaussian_tables_are_the_same_integers_everywhere():
    assert rans.gaussian_tables().fingerprint() == GAUSSIAN_FINGERPRINT


def test_gaussian_tables_are_the_references():
    made, expected = rans.gaussian_tables(), tables_reference.gaussian_tables()
    for name in ARRAYS:
        assert np.array_equal(getattr(made, name), getattr(expected, name)), name


def test_quantised_rows_are_the_references():
    rng = np.random.default_rng(4)
    sizes = [0, 1, 1, 2, 3, TOTAL - 1, *rng.integers(1, 700, 200)]
    rows = [rng.gamma(10 ** rng.uniform(-2, 1), size=size) for size in sizes]
    masses = rng.choice([1e-310, 1e-9, 0.5, 1, 1 + 1e-12, 7, 1e308], len(rows))
    rows = [row / max(row.sum(), 1e-300) * mass for row, mass in zip(rows, masses, strict=True)]
    rows += [np.zeros(9), np.full(4, 0.25), np.array([0, 0, 1.0]), np.array([1.0, -0.0])]
    expected = tables_reference.quantise(rows)
    made = rans.Tables.from_pmfs(rows, [-TOTAL // 2] * len(rows))
    assert np.array_equal(made.frequencies, np.concatenate(expected))
    assert np.array_equal(np.diff(made.first), [len(row) for row in expected])


def test_normal_cdf_is_accurate():
    t = np.linspace(-6, 6, 2001)
    exact = np.array([0.5 * math.erfc(-x / math.sqrt(2)) for x in t])
    assert np.abs(tables_reference.normal_cdf(t) - exact).max() < 1e-12


def test_gaussian_rows_match_the_model():
    """Every table's cost under its cell's true distribution is within 0.2 % + 0.0004 bit."""
    tables = rans.gaussian_tables()
    rng = np.random.default_rng(0)
    for _ in range(200):
        level = rng.integers(0, 120)
        cell = rng.integers(0, tables.row_size[level])
        scale = 2.0 ** (level // 8 - 7) * (1 + (level % 8 + 0.5) / 8)
        mean = (cell + 0.5) / tables.row_size[level] - 0.5
        t = tables.cells[tables.row_first[level] + cell]
        frequencies = tables.frequencies[tables.first[t] : tables.first[t + 1]]
        k = np.arange(len(frequencies) - 1) + tables.minimum[t]
        p = np.array(
            [
                0.5 * math.erfc(-(n + 0.5 - mean) / scale / math.sqrt(2))
                - 0.5 * math.erfc(-(n - 0.5 - mean) / scale / math.sqrt(2))
                for n in k
            ]
        ).clip(1e-300)
        rest = max(1 - p.sum(), 0)
        entropy = -(p * np.log2(p)).sum()
        cost = (p * (PRECISION - np.log2(frequencies[:-1]))).sum()
        cost += rest * (PRECISION - np.log2(frequencies[-1]) + 8)
        # A binary table's distance is rounded to a sixteenth of a scale as well.
        assert cost <= entropy * (1.002 if level >= 32 else 1.01) + 4e-4


@pytest.mark.parametrize("isa", ["scalar", "avx2", "avx512"])
def test_indexes_follow_the_rule(isa):
    if isa not in native.available_isas():
        pytest.skip(f"this machine has no {isa}")
    tables = rans.gaussian_tables()
    rng = np.random.default_rng(1)
    means = rng.normal(0, 3, 3003).astype(np.float32)
    scales = np.exp(rng.normal(-1, 3, 3003)).astype(np.float32)
    edges = [2.0**octave * (1 + step / 8) for octave in range(-8, 9) for step in range(8)]
    edges = np.array(edges, np.float32)
    scales[: len(edges)] = edges
    scales[len(edges) : 2 * len(edges)] = np.nextafter(edges, np.float32(0))
    special = [0.5, -0.5, 1.5, 2.5, 0.49999997, -0.49999997, 1e-45, 2**20, -(2**20), 3e38, -3e38]
    means[: len(special)] = special
    scales[-4:] = [-1, 0, 3e38, 1e-40]
    torch.set_flush_denormal(True)
    try:
        with native.use_isa(isa):
            indexes, centers = rans.gaussian_indexes(
                torch.from_numpy(means), torch.from_numpy(scales), tables
            )
    finally:
        torch.set_flush_denormal(False)
    expected = [reference_index(m, s, tables) for m, s in zip(means, scales, strict=True)]
    assert list(zip(indexes.tolist(), centers.tolist(), strict=True)) == expected


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_indexes_refuse_what_is_not_finite(bad):
    tables = rans.gaussian_tables()
    good = torch.ones(50)
    for isa in native.available_isas():
        for position in (0, 20, 49):
            broken = good.clone()
            broken[position] = bad
            for means, scales in ((broken, good), (good, broken)):
                with native.use_isa(isa), pytest.raises(ValueError, match="NaN"):
                    rans.gaussian_indexes(means, scales, tables)
    with pytest.raises(ValueError, match="shape"):
        rans.gaussian_indexes(good, good[:1], tables)


def test_integer_frequencies_are_kept():
    tables = rans.Tables.from_pmfs([np.array([100, 200]), np.array([32767])], [3, -4])
    assert tables.frequencies.tolist() == [100, 200, TOTAL - 300, 32767, 1]
    assert tables.minimum.tolist() == [3, -4]


def test_float_rows_are_quantised_to_the_total():
    rng = np.random.default_rng(2)
    for size in (1, 2, 5, 60, 3000):
        row = rng.gamma(0.3, size=size)
        row /= row.sum()
        tables = rans.Tables.from_pmfs([row, row * 3], [0, 0])
        for t in range(2):
            frequencies = tables.frequencies[tables.first[t] : tables.first[t + 1]]
            assert frequencies.sum() == TOTAL and frequencies.min() >= 1
        likely = row * TOTAL > 20
        share = tables.frequencies[: tables.first[1] - 1] / TOTAL
        assert np.all(np.abs(share - row)[likely] <= row[likely] * (0.1 + 0.001) + 1 / TOTAL)


def test_fingerprints_tell_tables_apart():
    one = rans.Tables.from_pmfs([np.array([0.5, 0.5])], [0])
    same = rans.Tables.from_pmfs([np.array([0.5, 0.5])], [0])
    moved = rans.Tables.from_pmfs([np.array([0.5, 0.5])], [1])
    assert one.fingerprint() == same.fingerprint() != moved.fingerprint()


def test_bits_counts_escapes():
    tables = rans.Tables.from_pmfs([np.array([16384, 8192])], [0])
    index = torch.zeros(1, dtype=torch.int32)
    for symbol, bits in ((0, 1), (1, 2), (2, 10), (-1, 10), (65, 10), (66, 18), (2**31 - 1, 42)):
        assert tables.bits(torch.tensor([symbol]), index) == bits


@pytest.mark.parametrize(
    "rows, offsets",
    [
        ([np.array([0])], [0]),
        ([np.array([TOTAL])], [0]),
        ([np.array([-1, 5])], [0]),
        ([np.array([0.5, np.nan])], [0]),
        ([np.array([0.5, -0.1])], [0]),
        ([np.array([0.5])], [40000]),
        ([np.array([0.5])], [0, 1]),
        ([np.zeros((2, 2))], [0]),
        ([], []),
    ],
)
def test_bad_tables_raise(rows, offsets):
    with pytest.raises(ValueError, match="tables|rANS"):
        rans.Tables.from_pmfs(rows, offsets)


ARRAYS = ("first", "minimum", "frequencies", "row_first", "row_size", "cells")


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("row_first", lambda a: a[:3], "levels"),
        ("row_size", lambda a: a[:-1], "levels"),
        ("row_size", lambda a: np.append(a[:-1], 0), "at least 1"),
        ("row_first", lambda a: np.append(-1, a[1:]), "negative"),
        ("row_first", lambda a: np.append(a[:-1], a[-1] + 1), "inside cells"),
        ("row_size", lambda a: np.append(2**31 - 1, a[1:]), "inside cells"),
        ("cells", lambda a: a[:-1], "inside cells"),
        ("cells", lambda a: np.append(a[:-1], 1162), "none of the tables"),
        ("cells", lambda a: a[None], "one dimension"),
        ("cells", lambda a: a.astype(np.int64) + 2**16, "fit uint16"),
        ("row_first", lambda a: None, "all three"),
        ("cells", lambda a: None, "all three"),
        ("minimum", lambda a: a.astype(np.int64) + 2**32, "fit int32"),
        ("frequencies", lambda a: a.astype(float), "integers"),
    ],
)
def test_a_bad_grid_raises(name, change, message):
    tables = rans.gaussian_tables()
    assert len(tables) == 1162
    arrays = {name: getattr(tables, name) for name in ARRAYS}
    arrays[name] = change(arrays[name])
    with pytest.raises(ValueError, match=message):
        rans.Tables(**arrays)


@pytest.mark.parametrize("tables", [rans.gaussian_tables, small_tables])
def test_copies_and_pickles(tables):
    tables = tables()
    assert copy.copy(tables) is tables and copy.deepcopy([tables])[0] is tables
    unpickled = pickle.loads(pickle.dumps(tables))
    assert unpickled.handle.value != tables.handle.value
    assert unpickled.fingerprint() == tables.fingerprint()
    index = torch.zeros(3, dtype=torch.int32)
    assert rans.encode(index, index, unpickled) == rans.encode(index, index, tables)


@pytest.mark.filterwarnings("error")
def test_as_many_symbols_as_slots():
    for row in (np.full(TOTAL - 1, 1 / TOTAL), np.full(TOTAL - 1, 1 / (TOTAL - 1))):
        tables = rans.Tables.from_pmfs([row], [-TOTAL // 2])
        assert tables.frequencies.tolist() == [1] * TOTAL
    symbols = torch.tensor([-TOTAL // 2, 0, TOTAL // 2 - 2, 40_000], dtype=torch.int32)
    index = torch.zeros_like(symbols)
    assert torch.equal(rans.decode(rans.encode(symbols, index, tables), index, tables), symbols)
