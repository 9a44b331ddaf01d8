"""docs/format.md's sections on tables, as a plain program without numpy: the same integers."""

import math

import numpy as np
import pytest
from golden_model import base_model, portable_model, small_model

from flic.coding import model_engine
from flic_kernels import rans

LN2 = 0.6931471805599453


def exp(x):
    n = round(x * (1 / LN2))
    r = (x - n * 0.693147180369123816490) - n * 1.90821492927058770002e-10
    p = 1.0
    for k in range(14, 0, -1):
        p = (p * r) / k + 1
    return math.ldexp(p, n)


def log(x):
    m, e = math.frexp(x)
    if m < 0.7071067811865476:
        m, e = m * 2, e - 1
    s = (m - 1) / (m + 1)
    q, p = s * s, 0.0
    for k in range(25, 0, -2):
        p = p * q + 1 / k
    return (2 * s) * p + e * LN2


def sigmoid(x):
    return 1 / (1 + exp(-min(max(x, -700.0), 700.0)))


def tanh(x):
    return 2 * sigmoid(2 * x) - 1


def softplus(x):
    return x if x > 40 else log(1 + exp(x))


def frequencies(probabilities):
    m = 0.0
    for p in probabilities:
        m += p
    if m > 1:
        probabilities, m = [p / m for p in probabilities], 1.0
    n, chain, running = len(probabilities), 0.0, []
    for p in [*probabilities, 1 - m]:
        chain += max(p * 32768 - 1, 0.0)
        running.append(chain)
    ends = [math.floor((c / chain) * (32768 - (n + 1)) + 0.5) for c in running]
    return [1 + e - before for e, before in zip(ends, [0, *ends], strict=False)]


def z_table(prior, channel):
    """(first symbol, frequencies) of a channel of z."""

    def matrix(parameter):
        return parameter[channel].detach().double().tolist()

    layers = [
        (
            [[softplus(v) for v in row] for row in matrix(prior.matrices[i])],
            [row[0] for row in matrix(prior.biases[i])],
            [tanh(row[0]) for row in matrix(prior.factors[i])] if i < 4 else None,
        )
        for i in range(5)
    ]

    def distribution(v):
        vector = [v]
        for weights, biases, factors in layers:
            out = []
            for row, bias in zip(weights, biases, strict=True):
                t = 0.0
                for weight, value in zip(row, vector, strict=True):
                    t += weight * value
                out.append(t + bias)
            if factors:
                out = [t + factor * tanh(t) for t, factor in zip(out, factors, strict=True)]
            vector = out
        return sigmoid(vector[0])

    median = prior.quantiles[channel, 0, 1].item()
    below = {k: distribution(median + (k - 0.5)) for k in range(-255, 257)}
    kept = [k for k in range(-255, 256) if below[k + 1] > 2**-17 and below[k] < 1 - 2**-17] or [0]
    return kept[0], frequencies(
        [max(below[k + 1] - below[k], 0.0) for k in range(kept[0], kept[-1] + 1)]
    )


@pytest.mark.parametrize(
    ("make", "channels"),
    [(small_model, range(6)), (portable_model, range(6)), (base_model, [0, 97])],
)
def test_z_tables(make, channels):
    tables = model_engine.engine_of(make()).z_tables
    for channel in channels:
        first, expected = z_table(make().entropy_bottleneck, channel)
        assert tables.minimum[channel] == first
        held = tables.frequencies[tables.first[channel] : tables.first[channel + 1]]
        assert held.tolist() == expected


def exp_negative(a):
    x, p = a / 1024, 1.0
    for n in range(12, 0, -1):
        p = 1 - (p * x) / n
    for _ in range(10):
        p = p * p
    return p


def phi(t):
    t = min(max(t, -6.0), 6.0)
    q, s = t * t, 1.0
    for n in range(241, 1, -2):
        s = 1 + (s * q) / n
    return 0.5 + ((t * s) * exp_negative(q / 2)) * 0.3989422804014327


def gaussian_cell(octave, scale, f):
    """(first symbol, frequencies) of a cell."""
    if octave >= -3:
        reach = math.floor(6 * scale) + 2
        below = [phi(((k - 0.5) - f) / scale) for k in range(-reach, reach + 2)]
        mass = {k: below[k + reach + 1] - below[k + reach] for k in range(-reach, reach + 1)}
        kept = [k for k, p in mass.items() if p * 32768 >= 0.2]
        return kept[0], frequencies([mass[k] for k in range(kept[0], kept[-1] + 1)])
    i = math.floor(min((0.5 - abs(f)) / scale, 6.0) / 0.0625 + 0.5)
    w = phi(-(i * 0.0625))
    if w * 32768 < 0.2:
        return 0, frequencies([1.0])
    return (0, frequencies([1 - w, w])) if f > 0 else (-1, frequencies([w, 1 - w]))


def test_gaussian_tables():
    tables = rans.gaussian_tables()
    numbers, cells, row_first, row_size = {}, [], [], []
    known = {}  # cells of small scales repeat

    def number(first, row):
        return numbers.setdefault((first, tuple(row)), len(numbers))

    for octave in range(-7, 8):
        for step in range(8):
            scale = 2.0**octave * (1 + (step + 0.5) / 8)
            row_first.append(len(cells))
            row_size.append(max(1, int(2.0 ** (3 - octave))))
            for c in range(row_size[-1]):
                f = (c + 0.5) / row_size[-1] - 0.5
                key = (octave, step, f)
                if octave < -3:
                    key = (math.floor(min((0.5 - abs(f)) / scale, 6.0) / 0.0625 + 0.5), f > 0)
                if key not in known:
                    known[key] = number(*gaussian_cell(octave, scale, f))
                cells.append(known[key])
    row_first.append(len(cells))
    row_size.append(1)
    cells.append(number(0, [32768]))

    assert np.array_equal(tables.row_first, row_first)
    assert np.array_equal(tables.row_size, row_size)
    assert np.array_equal(tables.cells, cells)
    assert tables.minimum.tolist() == [first for first, _ in numbers]
    assert tables.frequencies.tolist() == [f for _, row in numbers for f in row]
    assert np.array_equal(tables.first, np.cumsum([0] + [len(row) for _, row in numbers]))
