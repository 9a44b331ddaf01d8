"""The rANS coder: round trips, agreement with the reference, golden integers, bad input."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flic_kernels import native, rans, rans_reference

INT32 = st.integers(-(2**31), 2**31 - 1)
POWERS = [1, 2, 4, 8, 16, 32]


@pytest.fixture(params=["scalar", "avx2", "avx512"])
def isa(request):
    if request.param not in native.available_isas():
        pytest.skip(f"this machine has no {request.param}")
    with native.use_isa(request.param):
        yield request.param


def small_tables():
    """Few tables of every kind: one symbol, binary, flat, skewed, wide, escapes only, likely."""
    wide = np.exp(-0.5 * (np.arange(-400, 401) / 120.0) ** 2)
    rows = [
        [1.0],
        [0.5, 0.5],
        np.full(16, 1 / 16),
        0.5 ** np.arange(1, 12),
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


def round_trip(pushes, **options):
    encoder = rans.Encoder(**options)
    for symbols, indexes, tables in pushes:
        encoder.push(symbols, indexes, tables)
    data = encoder.finish()
    decoder = rans.Decoder(data)
    for symbols, indexes, tables in pushes:
        assert torch.equal(decoder.pull(indexes, tables), symbols.int())
    decoder.close()
    return data


def as_lists(pushes):
    return [(symbols.tolist(), indexes.tolist(), tables) for symbols, indexes, tables in pushes]


@pytest.mark.parametrize("lanes", [None, *POWERS])
@pytest.mark.parametrize("groups", [None, 1, 2, 8])
@pytest.mark.parametrize("count", [0, 1, 2, 31, 32, 33, 64, 1000])
def test_agrees_with_the_reference_byte_for_byte(isa, lanes, groups, count):
    tables = small_tables()
    pushes = [
        (*draw(tables, count // 3, 1), tables),
        (*draw(tables, count - count // 3, 2, uniform=0.2), tables),
    ]
    data = round_trip(pushes, lanes=lanes, groups=groups)
    assert data == rans_reference.encode(as_lists(pushes), lanes, groups)
    decoded = rans_reference.decode(data, [push[1:] for push in as_lists(pushes)])
    assert decoded == [push[0] for push in as_lists(pushes)]


@settings(max_examples=60, deadline=None)
@given(
    data=st.lists(st.tuples(st.integers(0, 6), st.one_of(st.integers(-9, 9), INT32)), max_size=90),
    cut=st.integers(0, 90),
    lanes=st.sampled_from([None, *POWERS]),
)
def test_any_symbols_round_trip(data, cut, lanes):
    tables = small_tables()
    indexes = torch.tensor([index for index, _ in data], dtype=torch.int32)
    symbols = torch.tensor([symbol for _, symbol in data], dtype=torch.int32)
    pushes = [(symbols[:cut], indexes[:cut], tables), (symbols[cut:], indexes[cut:], tables)]
    stream = round_trip(pushes, lanes=lanes)
    assert stream == rans_reference.encode(as_lists(pushes), lanes)


def test_gaussian_latents_round_trip_at_every_scale(isa):
    tables = rans.gaussian_tables()
    for seed, rate in enumerate((-6.0, -2.0, 0.0, 3.0, 8.0)):
        y, means, scales = latents(20_000, seed, rate)
        indexes, centers = rans.gaussian_indexes(means, scales, tables)
        symbols = y - centers
        data = round_trip([(symbols, indexes, tables)])
        assert len(data) * 8 <= tables.bits(symbols, indexes) * 1.0015 + 8 * 40
        assert torch.equal(rans.decode(data, indexes, tables), symbols)


@pytest.mark.parametrize("symbol_type", [torch.int8, torch.int16, torch.int32])
@pytest.mark.parametrize("index_type", [torch.int32, torch.uint16])
def test_element_types_give_one_stream(isa, symbol_type, index_type):
    tables = small_tables()
    symbols, indexes = draw(tables, 3000, 5, uniform=0)
    symbols = symbols.clamp(-128, 127)
    expected = rans.encode(symbols, indexes, tables)
    narrow = indexes.to(index_type)
    assert rans.encode(symbols.to(symbol_type), narrow, tables) == expected
    assert torch.equal(rans.decode(expected, narrow, tables), symbols)


def test_shapes_and_strides_are_kept():
    tables = small_tables()
    symbols, indexes = (t.reshape(2, 30, 5) for t in draw(tables, 300, 3))
    data = rans.encode(symbols.transpose(0, 2), indexes.transpose(0, 2), tables)
    decoded = rans.decode(data, indexes.transpose(0, 2), tables)
    assert torch.equal(decoded, symbols.transpose(0, 2))


def test_all_escapes_round_trip(isa):
    tables = small_tables()
    indexes = torch.full((500,), 5, dtype=torch.int32)
    extremes = torch.tensor([-(2**31), 2**31 - 1, 0, -1, 1], dtype=torch.int32)
    data = round_trip([(extremes.repeat(100), indexes, tables)])
    assert data == rans_reference.encode([(extremes.tolist() * 100, [5] * 500, tables)])


def test_lanes_follow_the_payload():
    tables = rans.gaussian_tables()
    seen = []
    for count in (10, 400, 1000, 2000, 4000, 60_000):
        y, means, scales = latents(count, 1)
        indexes, centers = rans.gaussian_indexes(means, scales, tables)
        seen.append(1 << (rans.encode(y - centers, indexes, tables)[0] & 7))
    assert seen[0] == 1 and seen[-1] == 32 and seen == sorted(seen)


def test_every_bit_flip_and_truncation_is_safe(isa):
    tables = small_tables()
    symbols, indexes = draw(tables, 120, 7)
    data = rans.encode(symbols, indexes, tables)
    for size in range(len(data)):
        with pytest.raises(rans.CorruptStream):
            rans.decode(data[:size], indexes, tables)
    with pytest.raises(rans.CorruptStream):
        rans.decode(data + b"\0", indexes, tables)
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            assert not torch.equal(rans.decode(bytes(flipped), indexes, tables), symbols)
        except rans.CorruptStream:
            pass


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=200), count=st.integers(0, 300))
def test_any_bytes_decode_or_raise(data, count):
    tables = small_tables()
    _, indexes = draw(tables, count, count)
    results = []
    for name in native.available_isas():
        with native.use_isa(name):
            try:
                results.append(rans.decode(data, indexes, tables).tolist())
            except rans.CorruptStream as error:
                results.append(str(error))
    try:
        expected = rans_reference.decode(data, [(indexes.tolist(), tables)])[0]
    except rans_reference.Corrupt:
        assert all(isinstance(result, str) for result in results)
    else:
        assert results == [expected] * len(results)


def test_misuse_raises():
    tables = small_tables()
    one = torch.zeros(1, dtype=torch.int32)
    data = rans.encode(one, one, tables)
    decoder = rans.Decoder(data)
    decoder.pull(one, tables)
    with pytest.raises(rans.CorruptStream, match="pulls"):
        decoder.pull(one, tables)
    with pytest.raises(rans.CorruptStream, match="pulls"):
        rans.Decoder(data).close()
    for index in (-1, len(tables)):
        with pytest.raises(IndexError):
            rans.encode(one, one + index, tables)
        with pytest.raises(IndexError):
            rans.decode(data, one + index, tables)
    with pytest.raises(ValueError, match="shape"):
        rans.encode(one, torch.zeros(2, dtype=torch.int32), tables)
    with pytest.raises(TypeError, match="int64"):
        rans.encode(one.long(), one, tables)
    with pytest.raises(ValueError, match="lanes"):
        rans.Encoder(lanes=3)
    with pytest.raises(ValueError, match="instruction set"), native.use_isa("sse"):
        pass
