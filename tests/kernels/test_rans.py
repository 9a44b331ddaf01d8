"""The rANS coder: round trips, agreement with the reference, golden integers, bad input."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rans_cases import draw, latents, small_tables

from flic_kernels import native, rans, rans_batch
from flic_kernels.rans import reference as rans_reference

INT32 = st.integers(-(2**31), 2**31 - 1)
POWERS = [1, 2, 4, 8, 16, 32]


@pytest.fixture(params=["scalar", "avx2", "avx512"])
def isa(request):
    if request.param not in native.available_isas():
        pytest.skip(f"this machine has no {request.param}")
    with native.use_isa(request.param):
        yield request.param


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
@pytest.mark.parametrize("groups", [None, 8])
@pytest.mark.parametrize("count", [0, 1, 2, 33, 700])
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


@pytest.mark.parametrize("threads", [1, 3])
def test_after_an_error_a_batch_encoder_is_empty(threads):
    tables = small_tables()
    symbols, indexes = (tensor.reshape(4, 25) for tensor in draw(tables, 100, 1))
    encoder = rans_batch.BatchEncoder(4, threads=threads)
    encoder.push(symbols, indexes - 100, tables)
    with pytest.raises(IndexError):
        encoder.finish()
    encoder.push(symbols, indexes, tables)
    expected = [rans.encode(*pair, tables) for pair in zip(symbols, indexes, strict=True)]
    assert encoder.finish() == expected


@pytest.mark.parametrize("threads", [1, 3])
def test_batches_equal_single_pictures(threads):
    tables = rans.gaussian_tables()
    y, means, scales = (t.reshape(4, 6, 500) for t in latents(12_000, 2))
    indexes, centers = rans.gaussian_indexes(means, scales, tables)
    symbols = y - centers
    encoder = rans_batch.BatchEncoder(4, threads=threads)
    encoder.push(symbols[:, :2], indexes[:, :2], tables)
    encoder.push(symbols[:, 2:], indexes[:, 2:], tables)
    streams = encoder.finish()
    for picture in range(4):
        cut = [(symbols[picture, s], indexes[picture, s], tables) for s in (slice(2), slice(2, 6))]
        assert round_trip(cut) == streams[picture]
    decoder = rans_batch.BatchDecoder(streams, threads=threads)
    pulled = [decoder.pull(indexes[:, s], tables) for s in (slice(2), slice(2, 6))]
    decoder.close()
    assert torch.equal(torch.cat(pulled, 1), symbols)
    streams[2] = streams[2][:-1]
    with pytest.raises(rans.CorruptStream):
        decoder = rans_batch.BatchDecoder(streams, threads=threads)
        pulled = [decoder.pull(indexes[:, s], tables) for s in (slice(2), slice(2, 6))]
        decoder.close()
