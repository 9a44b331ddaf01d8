"""A picture's coded latents: what detects a wrong decode, then the rANS payload. Needs no torch.

The layout is in docs/format.md, "Stream". The checks cost 6 bytes and 2 for each slice.
"""

import struct
import zlib
from dataclasses import dataclass

from ..errors import FormatError, TruncatedError, UnsupportedVersionError

ARITHMETIC = 1
"""Version of docs/exact.md and of the coder's tables that this program computes."""
_HEAD = struct.Struct("<BIB")


@dataclass(frozen=True)
class Stream:
    """latents_crc: CRC-32 of z and y. checks: 16 bits over each slice's table indexes and centers.

    payload: the rANS stream (docs/rans.md).
    """

    latents_crc: int
    checks: tuple[int, ...]
    payload: bytes


def pack(stream: Stream) -> bytes:
    """The bytes of a stream."""
    head = _HEAD.pack(ARITHMETIC, stream.latents_crc, len(stream.checks))
    return head + struct.pack(f"<{len(stream.checks)}H", *stream.checks) + stream.payload


def unpack(data: bytes) -> Stream:
    """The fields of a stream; raises UnsupportedVersionError, TruncatedError or FormatError."""
    if len(data) < _HEAD.size:
        raise TruncatedError(f"the stream ends early, after {len(data)} bytes")
    arithmetic, latents_crc, slices = _HEAD.unpack_from(data)
    if arithmetic > ARITHMETIC:
        raise UnsupportedVersionError(
            f"the stream was coded with arithmetic {arithmetic}; this flic has {ARITHMETIC}: "
            "install a newer flic"
        )
    if arithmetic != ARITHMETIC:
        raise FormatError(f"the stream is damaged: there is no arithmetic {arithmetic}")
    end = _HEAD.size + 2 * slices
    if len(data) < end:
        raise TruncatedError(f"the stream ends early, after {len(data)} bytes")
    checks = struct.unpack_from(f"<{slices}H", data, _HEAD.size)
    return Stream(latents_crc, checks, bytes(data[end:]))


def check(indexes: bytes, centers: bytes) -> int:
    """The 16 bits that guard a slice: the low half of CRC-32 over int32 indexes, then centers."""
    return zlib.crc32(centers, zlib.crc32(indexes)) & 0xFFFF
