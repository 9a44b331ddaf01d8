"""Fixed streams (tests/golden/rans.npz): every implementation reads and writes them."""

import pytest
import torch
from rans_golden import NAMES, case

from flic_kernels import native, rans
from flic_kernels.rans import reference as rans_reference


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("isa", ["scalar", "avx2", "avx512"])
def test_native_coders(name, isa):
    if isa not in native.available_isas():
        pytest.skip(f"this machine has no {isa}")
    stream, pushes, lanes, groups = case(name)
    with native.use_isa(isa):
        encoder = rans.Encoder(lanes=lanes, groups=groups)
        for push in pushes:
            encoder.push(*push)
        assert encoder.finish() == stream
        decoder = rans.Decoder(stream)
        for symbols, indexes, tables in pushes:
            assert torch.equal(decoder.pull(indexes, tables), symbols)
        decoder.close()


@pytest.mark.parametrize("name", NAMES)
def test_reference(name):
    stream, pushes, lanes, groups = case(name)
    lists = [(symbols.tolist(), indexes.tolist(), tables) for symbols, indexes, tables in pushes]
    assert rans_reference.encode(lists, lanes, groups) == stream
    decoded = rans_reference.decode(stream, [push[1:] for push in lists])
    assert decoded == [push[0] for push in lists]
