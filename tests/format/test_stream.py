"""The stream's frame: what detects a wrong decode, in its documented bytes."""

import pytest

from flic.errors import FlicError, FormatError, TruncatedError, UnsupportedVersionError
from flic.format import stream
from flic.format.stream import Stream
from flic_kernels.exact import ARITHMETIC_VERSION

PLAIN = Stream(0xDEADBEEF, (1, 0xFFFE), b"payload")
BYTES = b"\x01\xef\xbe\xad\xde\x02\x01\x00\xfe\xffpayload"


def test_bytes_are_those_of_the_specification():
    assert stream.pack(PLAIN) == BYTES
    assert stream.unpack(BYTES) == PLAIN
    assert stream.unpack(stream.pack(Stream(0, (), b""))) == Stream(0, (), b"")


def test_costs_sixteen_bytes_for_five_slices():
    assert len(stream.pack(Stream(1, (0,) * 5, b""))) == 16


def test_arithmetic_is_the_engines():
    assert stream.ARITHMETIC == ARITHMETIC_VERSION


def test_truncated():
    for length in range(len(BYTES) - len(PLAIN.payload)):
        with pytest.raises(TruncatedError):
            stream.unpack(BYTES[:length])


def test_other_arithmetic():
    with pytest.raises(UnsupportedVersionError, match="arithmetic 2.*newer flic"):
        stream.unpack(b"\x02" + BYTES[1:])
    with pytest.raises(FormatError, match="no arithmetic 0") as error:
        stream.unpack(b"\x00" + BYTES[1:])
    assert isinstance(error.value, FlicError)


def test_check_is_half_a_crc32():
    assert stream.check(b"123456", b"789") == 0xCBF43926 & 0xFFFF  # CRC-32's published check value
