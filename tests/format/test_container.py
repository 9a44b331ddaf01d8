"""The file format: what goes in comes out; anything else is one clear error."""

import dataclasses
import io
import struct
import tracemalloc
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flic.errors import FlicError, FormatError, TruncatedError, UnsupportedVersionError
from flic.format import container
from flic.format.container import Container, Header, pack, read_header, unpack

PLAIN = Container(768, 512, bytes(range(8)), (b"stream of latents",))
FULL = dataclasses.replace(PLAIN, gray=True, alpha=b"alpha", icc=b"icc" * 99, exif=b"MM\0*" * 9)
EMPTY = dataclasses.replace(FULL, icc=b"", streams=(b"\0",))
TILED = dataclasses.replace(PLAIN, tile=384, streams=(b"a", b"bc", b"d", bytes(200)))
STEP, TILED_STEP = (dataclasses.replace(c, step=2.5) for c in (PLAIN, TILED))


def with_crc(body: bytes) -> bytes:
    return body + struct.pack("<I", zlib.crc32(body))


@pytest.mark.parametrize("c", [PLAIN, FULL, EMPTY, TILED, STEP, TILED_STEP])
def test_round_trip(c):
    assert unpack(pack(c)) == c
    assert unpack(bytearray(pack(c))) == c


def test_bytes_are_those_of_the_specification():
    body = b"FLIC" + b"\1\0" + bytes(range(8)) + b"\x80\x06" + b"\x80\x04"
    body += b"\x11" + b"stream of latents"
    assert pack(PLAIN) == with_crc(body)


def test_bytes_of_a_file_with_tiles_are_those_of_the_specification():
    body = b"FLIC" + b"\2\0" + bytes(range(8)) + b"\x80\x06" + b"\x80\x04"
    body += b"\x03" + b"\1\2\1\xc8\1" + b"abcd" + bytes(200)
    assert pack(TILED) == with_crc(body)
    assert (TILED.version, unpack(pack(TILED)).version) == (2, 2)


def test_bytes_of_a_file_with_a_step_are_those_of_the_specification():
    body = b"FLIC" + b"\3\0" + bytes(range(8)) + b"\x80\x06" + b"\x80\x04" + b"\0\0\x20\x40"
    assert pack(STEP) == with_crc(body + b"\x00\x11" + b"stream of latents")
    tiles = b"\x03" + b"\1\2\1\xc8\1" + b"abcd" + bytes(200)
    assert pack(TILED_STEP) == with_crc(body + tiles)
    assert (STEP.version, unpack(pack(STEP)).version, TILED_STEP.version) == (3, 3, 3)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (0.0, "between"),
        (-1.0, "between"),
        (65.0, "between"),
        (0.0156, "between"),
        (1e-42, "between"),
    ]
    + [(float("nan"), "between"), (float("inf"), "between"), (1.0, "versions 1 and 2")],
)
def test_a_step_that_no_file_has(step, message):
    data = pack(STEP)[:-4].replace(struct.pack("<f", 2.5), struct.pack("<f", step))
    with pytest.raises(FormatError, match=f"damaged: .*{message}"):
        unpack(with_crc(data))


def test_a_plain_file_carries_at_most_24_bytes_beside_its_stream():
    c = dataclasses.replace(PLAIN, streams=(bytes(16_000),))
    assert len(pack(c)) - 16_000 <= 24


@pytest.mark.parametrize("c", [PLAIN, FULL, TILED, STEP, TILED_STEP])
def test_truncated_at_every_length(c):
    data = pack(c)
    for length in range(len(data)):
        with pytest.raises(TruncatedError):
            unpack(data[:length])


@pytest.mark.parametrize("c", [PLAIN, FULL, TILED, STEP, TILED_STEP])
def test_every_flipped_bit(c):
    data = pack(c)
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << (bit % 8)
        with pytest.raises(FormatError):
            unpack(damaged)


class Watched(io.BytesIO):
    """A file that counts the bytes read from it."""

    bytes_read = 0

    def read(self, count=-1):
        data = super().read(count)
        self.bytes_read += len(data)
        return data


@pytest.mark.parametrize("c", [PLAIN, FULL])
def test_the_header_is_read_alone(c):
    data = pack(dataclasses.replace(c, streams=(bytes(10_000),), alpha=c.alpha and bytes(10_000)))
    file = Watched(b"before" + data)
    file.seek(6)
    header = read_header(file)
    assert file.bytes_read < 200
    fields = {field.name: getattr(c, field.name) for field in dataclasses.fields(Header)}
    assert header == Header(**(fields | {"alpha": c.alpha is not None}))


def test_the_header_of_a_truncated_file():
    data = pack(FULL)
    whole = read_header(io.BytesIO(data))
    end = len(data) - sum(map(len, FULL.streams)) - 5
    for length in range(len(data)):
        if length < end:
            with pytest.raises(TruncatedError):
                read_header(io.BytesIO(data[:length]))
        else:
            assert read_header(io.BytesIO(data[:length])) == whole


def test_a_file_larger_than_any_is_not_read(tmp_path):
    with (tmp_path / "huge.flic").open("wb+") as file:
        file.write(pack(PLAIN))
        file.truncate(container.MAX_FILE + 1)
        file.seek(0)
        with pytest.raises(FormatError, match="larger than any"):
            read_header(file)


def test_bytes_after_the_end():
    with pytest.raises(FormatError, match="1 bytes after"):
        unpack(pack(PLAIN) + b"\0")


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n\x1a\n", b"FLI_", b"flic\0", b"\xff" * 100])
def test_other_files(data):
    with pytest.raises(FormatError):
        unpack(data)


@pytest.mark.parametrize("version", [4, 5, 255])
def test_a_newer_version_is_named_whatever_follows(version):
    with pytest.raises(UnsupportedVersionError, match=f"version {version}.*newer flic"):
        unpack(b"FLIC" + bytes([version]) + b"what version 9 writes")


def test_a_draft_is_named_whatever_follows():
    with pytest.raises(UnsupportedVersionError, match="version 0.*never released"):
        unpack(with_crc(b"FLIC\0" + pack(PLAIN)[5:-4]))


def rebuilt(width=b"\x01", height=b"\x01", flags=0, sections=b"", length=b"\x00", stream=b""):
    body = b"FLIC\1" + bytes([flags]) + bytes(8) + width + height + sections
    return with_crc(body + length + stream)


def tiled(width: int, tiles: bytes) -> bytes:
    """A file of version 2, of one row of pixels, less than 16384 of them."""
    size = bytes((width & 0x7F | 0x80, width >> 7, 1))
    return with_crc(b"FLIC\2\0" + bytes(8) + size + tiles)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(width=b"\x00"), "no pixels"),
        (dict(height=b"\x00"), "no pixels"),
        (dict(width=b"\x80\x80\x04"), "too large"),
        (dict(width=b"\xff\xff\x03", height=b"\xff\xff\x03"), "megapixels"),
        (dict(width=b"\xff\xff\xff\xff\x7f"), "too large"),
        (dict(width=b"\xff\xff\xff\xff\xff\x01"), "too long"),
        (dict(width=b"\x81\x00"), "shortest"),
        (dict(flags=16), "unknown flags 0x10"),
        (dict(flags=128), "unknown flags 0x80"),
        (dict(length=b"\xff\xff\xff\xff\x7f"), "ends early"),
        (dict(flags=2, sections=b"\xff\xff\xff\xff\x7f"), "ends early"),
        (dict(flags=4, sections=b"\x04abcd"), "does not decompress"),
        (dict(flags=4, sections=b"\x02" + zlib.compress(b"abc")[:2]), "to its end"),
        (dict(flags=8, sections=b"\x0c" + zlib.compress(b"abc") + b"!"), "to its end"),
    ],
)
def test_impossible_fields_with_right_checksums(fields, message):
    data = rebuilt(**fields)
    with pytest.raises(FormatError, match=message):
        unpack(data)
    if "length" not in fields:
        with pytest.raises(FormatError, match=message):
            read_header(io.BytesIO(data))


@pytest.mark.parametrize(
    ("width", "tiles", "message"),
    [
        (129, b"\0\0\0", "129x1 has no tiles of 0"),
        (129, b"\2\0", "129x1 has no tiles of 256"),
        (128, b"\1\0", "128x1 has no tiles of 128"),
        (129, b"\xff\xff\xff\xff\x7f\0\0", "no tiles"),
        (129, b"\1\0", "ends early"),
        (129, b"\1\2\2abc", "ends early"),
        (129, b"\1\0\xff\xff\xff\xff\x7f", "ends early"),
        (129, b"\1\x80\0\0", "shortest"),
        (129, b"\1\1\1abc", "1 bytes after"),
    ],
)
def test_impossible_tiles_with_right_checksums(width, tiles, message):
    assert unpack(tiled(129, b"\1\1\2abc")).streams == (b"a", b"bc")
    with pytest.raises(FormatError, match=message):
        unpack(tiled(width, tiles))


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (rebuilt(), "the picture's stream"),
        (tiled(129, b"\1\0\0"), r"tile 0 \(row 0, column 0\)"),
        (tiled(300, b"\1\1\0\1ab"), r"tile 1 \(row 0, column 1\)"),
    ],
)
def test_a_stream_without_bytes_is_refused(data, name):
    with pytest.raises(FormatError, match=f"damaged: {name} .*no bytes"):
        unpack(data)


def test_pack_refuses_a_stream_without_bytes():
    for c in (PLAIN, TILED):
        with pytest.raises(FormatError, match="no bytes"):
            pack(dataclasses.replace(c, streams=(*c.streams[:-1], b"")))


def test_a_decompression_bomb_is_refused_without_memory():
    bomb = zlib.compress(bytes(1 << 28), 9)
    data = rebuilt(flags=4, sections=container._varint(len(bomb)) + bomb)
    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match="too large"):
            unpack(data)
        assert tracemalloc.get_traced_memory()[1] < 4 * container.MAX_METADATA
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "change",
    [
        dict(width=0),
        dict(height=70_000),
        dict(width=60_000, height=60_000),
        dict(fingerprint=b"short"),
        dict(streams=()),
        dict(streams=(b"", b"")),
        dict(tile=384),
        dict(tile=100, streams=(b"",) * 48),
        dict(tile=0),
        dict(tile=768),
        dict(icc=bytes(container.MAX_METADATA + 1)),
    ],
)
def test_pack_refuses_what_no_file_can_carry(change):
    with pytest.raises(FormatError):
        pack(dataclasses.replace(PLAIN, **change))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80), st.booleans(), st.sampled_from([b"\1", b"\2", b"\3"]))
def test_noise_never_crashes(noise, checksummed, version):
    data = b"FLIC" + version + noise
    try:
        c = unpack(with_crc(data) if checksummed else data)
    except FlicError:
        return
    assert unpack(pack(c)) == c
