"""The .flic file: header, optional sections, entropy-coded streams, checksum. See docs/format.md.

Needs no torch. Nothing read from a file is trusted: every length is checked against what is there
before it is used, and sizes are checked against limits before anything is allocated.
"""

import io
import os
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from ..config import STRIDE
from ..errors import FormatError, TruncatedError, UnsupportedVersionError
from .step import check_step
from .tile_grid import Grid

MAGIC = b"FLIC"
VERSION = 3
"""The newest version that is read."""
FINGERPRINT_BYTES = 8

MAX_SIDE = 65535
"""Largest width or height, in pixels."""
MAX_PIXELS = 1 << 26
"""Most pixels in a picture: 67,108,864."""
MAX_FILE = 1 << 29
"""Most bytes that a reader looks at: 512 MiB, more than the largest picture can need."""
MAX_METADATA = 1 << 24
"""Most bytes in an ICC profile or in EXIF data, before compression: 16 MiB."""

_GRAY, _ALPHA, _ICC, _EXIF = 1, 2, 4, 8
_KNOWN_FLAGS = _GRAY | _ALPHA | _ICC | _EXIF
_MAX_VARINT = 5


@dataclass(frozen=True)
class Container:
    """What a .flic file says.

    width, height: of the picture, pixels.
    fingerprint: 8 bytes, of the weights that made the streams.
    streams: the coded latents (stream.py) of the picture, or of its tiles, row by row.
    gray: the picture has one channel; the decoder averages the three.
    alpha: an 8-bit gray PNG file of the same size, or None.
    icc, exif: bytes, or None. EXIF starts with its TIFF header, without the "Exif" mark of JPEG.
    tile: the tiles' side in pixels (tile_grid.py), None where the picture is coded whole.
    step: the quantisation step, a float32.
    data: the file that this was read from; None for what `dataclasses.replace` makes of it.
    """

    width: int
    height: int
    fingerprint: bytes
    streams: tuple[bytes, ...]
    gray: bool = False
    alpha: bytes | None = None
    icc: bytes | None = None
    exif: bytes | None = None
    tile: int | None = None
    step: float = 1.0
    data: bytes | None = field(default=None, init=False, compare=False, repr=False)

    @property
    def version(self) -> int:
        """Of the file format: 1 whole pictures, 2 tiles, 3 either with a step other than 1."""
        if self.step != 1:
            return 3
        return 1 if self.tile is None else 2

    @property
    def grid(self) -> Grid:
        """The picture's tiles, a stream for each."""
        return Grid((self.height, self.width), self.tile)


@dataclass(frozen=True)
class Header:
    """What stands before a file's streams; fields as in `Container`.

    alpha: whether there is an alpha plane.
    """

    width: int
    height: int
    fingerprint: bytes
    gray: bool
    alpha: bool
    icc: bytes | None
    exif: bytes | None
    version: int
    step: float


def check_size(width: int, height: int, error: type[Exception] = FormatError) -> None:
    """Raise `error` unless a picture of this size, in pixels, is one that flic handles."""
    if width < 1 or height < 1:
        raise error(f"the picture has no pixels ({width}x{height})")
    if width > MAX_SIDE or height > MAX_SIDE:
        raise error(f"{width}x{height} is too large: at most {MAX_SIDE} pixels a side")
    if width * height > MAX_PIXELS:
        raise error(f"{width}x{height} is too large: at most {MAX_PIXELS / 1e6:.0f} megapixels")


def pack(container: Container) -> bytes:
    """The file's bytes. Raises FormatError on fields that no file can carry."""
    c = container
    check_size(c.width, c.height)
    step = check_step(c.step, FormatError)
    if c.tile is not None:
        _check_tile(c.tile, c.width, c.height)
    if len(c.streams) != len(c.grid):
        raise FormatError(f"{len(c.streams)} streams are not one for each of {len(c.grid)} tiles")
    _check_streams(c)
    if len(c.fingerprint) != FINGERPRINT_BYTES:
        raise FormatError(f"a fingerprint has {FINGERPRINT_BYTES} bytes, not {len(c.fingerprint)}")
    flags, sections = _GRAY if c.gray else 0, b""
    for flag, packed in zip((_ALPHA, _ICC, _EXIF), packed_sections(c), strict=True):
        if packed is not None:
            flags |= flag
            sections += _varint(len(packed)) + packed
    body = b"".join(
        (
            MAGIC,
            bytes((c.version, flags)),
            c.fingerprint,
            _varint(c.width),
            _varint(c.height),
            struct.pack("<f", step) if c.version == 3 else b"",
            sections,
            _varint((c.tile or 0) // STRIDE) if c.version > 1 else b"",
            *(_varint(len(stream)) for stream in c.streams),
            *c.streams,
        )
    )
    return body + struct.pack("<I", zlib.crc32(body))


def packed_sections(file: Container) -> tuple[bytes | None, bytes | None, bytes | None]:
    """Alpha plane, ICC profile and EXIF as a file carries them. Raises FormatError."""
    packed = []
    for name, data in (("ICC profile", file.icc), ("EXIF", file.exif)):
        if data is not None and len(data) > MAX_METADATA:
            raise FormatError(f"{name} of {len(data)} bytes is too large: at most {MAX_METADATA}")
        packed.append(None if data is None else zlib.compress(data, 9))
    return file.alpha, *packed


def read(source: Any) -> bytes:
    """A file's bytes, from bytes, a path or a binary file object; at most MAX_FILE + 1 are read.

    Raises FormatError on any other source, and on what cannot be read.
    """
    if isinstance(source, (str, os.PathLike)):
        try:
            with Path(source).open("rb") as file:
                return file.read(MAX_FILE + 1)
        except OSError as error:
            raise FormatError(f"{os.fspath(source)}: {error.strerror or error}") from error
    if hasattr(source, "read"):
        try:
            source = source.read(MAX_FILE + 1)
        except OSError as error:
            raise FormatError(f"the file cannot be read: {error.strerror or error}") from error
        if isinstance(source, str):
            raise FormatError("a .flic file must be opened in binary mode")
    try:
        return source if isinstance(source, bytes) else bytes(memoryview(source))
    except TypeError as error:
        raise FormatError(f"cannot read a .flic file from {type(source).__name__}") from error


def unpack(data: bytes | bytearray | memoryview) -> Container:
    """The fields of a .flic file.

    Raises FormatError (not a .flic file, too large, impossible fields, failed checksum),
    TruncatedError or UnsupportedVersionError.
    """
    data = bytes(data)
    _check_length(len(data))
    reader = _Reader(data)
    version, flags, fingerprint, width, height, step = _start(reader)
    sections = {
        flag: reader.take(reader.varint()) if flags & flag else None
        for flag in (_ALPHA, _ICC, _EXIF)
    }
    tile = None
    if version > 1:
        tile = STRIDE * reader.varint()
        if tile == 0 and version == 3:
            tile = None
        else:
            _check_tile(tile, width, height)
    streams = _streams(reader, len(Grid((height, width), tile)))
    end = reader.position
    (file_crc,) = struct.unpack("<I", reader.take(4))
    if reader.position != reader.size:
        raise FormatError(f"the file is damaged: {reader.size - end - 4} bytes after its end")
    if zlib.crc32(memoryview(data)[:end]) != file_crc:
        raise FormatError("the file is damaged: its checksum does not match")
    file = Container(
        width=width,
        height=height,
        fingerprint=fingerprint,
        streams=streams,
        gray=bool(flags & _GRAY),
        alpha=sections[_ALPHA],
        icc=_inflate(sections[_ICC], "ICC profile"),
        exif=_inflate(sections[_EXIF], "EXIF"),
        tile=tile,
        step=step,
    )
    object.__setattr__(file, "data", data)  # frozen to all others
    _check_streams(file)
    return file


def read_header(file: BinaryIO) -> Header:
    """The fields before the streams, from an open file at its start.

    Alpha plane, streams and checksum are not read: `unpack` says whether the file is whole.
    Raises as `unpack`.
    """
    reader = _FileReader(file)
    _check_length(reader.size)
    version, flags, fingerprint, width, height, step = _start(reader)
    if flags & _ALPHA:
        reader.skip(reader.varint())
    icc, exif = (reader.take(reader.varint()) if flags & flag else None for flag in (_ICC, _EXIF))
    return Header(
        width=width,
        height=height,
        fingerprint=fingerprint,
        gray=bool(flags & _GRAY),
        alpha=bool(flags & _ALPHA),
        icc=_inflate(icc, "ICC profile"),
        exif=_inflate(exif, "EXIF"),
        version=version,
        step=step,
    )


def _check_length(length: int) -> None:
    """Raise FormatError where a file has more bytes than any."""
    if length > MAX_FILE:
        raise FormatError(f"larger than any .flic file ({MAX_FILE >> 20} MiB)")


def _start(reader: "_Reader") -> tuple[int, int, bytes, int, int, float]:
    """Version, flags, fingerprint, width, height and step, checked."""
    if not reader.size:
        raise TruncatedError("the file is empty")
    magic = reader.take(min(len(MAGIC), reader.size))
    if magic != MAGIC[: len(magic)]:
        raise FormatError("not a .flic file")
    if reader.size <= len(MAGIC):
        raise TruncatedError(f"the file ends early, after {reader.size} bytes")
    (version,) = reader.take(1)
    if version > VERSION:
        raise UnsupportedVersionError(
            f"the file has format version {version}; this flic reads up to version {VERSION}: "
            "install a newer flic"
        )
    if version < 1:
        raise UnsupportedVersionError(
            f"the file has format version {version}, a draft that was never released: "
            "encode the picture again"
        )
    (flags,) = reader.take(1)
    fingerprint = reader.take(FINGERPRINT_BYTES)
    if flags & ~_KNOWN_FLAGS:
        raise FormatError(f"the file is damaged: unknown flags 0x{flags & ~_KNOWN_FLAGS:02x}")
    width, height = reader.varint(), reader.varint()
    check_size(width, height)
    step = _step(reader) if version == 3 else 1.0
    return version, flags, fingerprint, width, height, step


def _step(reader: "_Reader") -> float:
    (step,) = struct.unpack("<f", reader.take(4))
    try:
        check_step(step, FormatError)
    except FormatError as error:
        raise FormatError(f"the file is damaged: {error}") from None
    if step == 1:
        raise FormatError("the file is damaged: a step of 1 belongs to versions 1 and 2")
    return step


def _check_tile(tile: int, width: int, height: int) -> None:
    """Raise FormatError unless a picture can have tiles of this side."""
    if tile < STRIDE or tile % STRIDE or tile >= max(width, height):
        raise FormatError(f"a picture of {width}x{height} has no tiles of {tile} pixels")


def _check_streams(file: Container) -> None:
    """Raise FormatError where a stream has no bytes: every encoder's has its head, at least."""
    if b"" in file.streams:
        whole = file.tile is None
        name = "the picture's stream" if whole else file.grid.name(file.streams.index(b""))
        raise FormatError(f"the file is damaged: {name} has no bytes")


def _streams(reader: "_Reader", count: int) -> tuple[bytes, ...]:
    """All lengths, then all streams."""
    lengths = [reader.varint() for _ in range(count)]
    return tuple(reader.take(length) for length in lengths)


class _Reader:
    """Reads fields in order; never past the end."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)
        self.position = 0

    def take(self, count: int) -> bytes:
        start = self.skip(count)
        return self.data[start : self.position]

    def skip(self, count: int) -> int:
        """Go on by `count` bytes; gives the position before."""
        end = self.position + count
        if end > self.size:
            raise TruncatedError(
                f"the file ends early or is damaged: {self.size} bytes where at least {end} "
                "are needed"
            )
        start, self.position = self.position, end
        return start

    def varint(self) -> int:
        value = 0
        for shift in range(0, 7 * _MAX_VARINT, 7):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if byte == 0 and shift:
                    raise FormatError("the file is damaged: a number is not in its shortest form")
                return value
        raise FormatError("the file is damaged: a number is too long")


class _FileReader(_Reader):
    """The same on an open file, of which only what is taken is read."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.begin = file.tell()
        self.size = file.seek(0, io.SEEK_END) - self.begin
        self.position = 0

    def take(self, count: int) -> bytes:
        self.file.seek(self.begin + self.skip(count))
        return self.file.read(count)


def _varint(value: int) -> bytes:
    """LEB128: 7 bits a byte, lowest first, the top bit set on all but the last."""
    if value >= 1 << (7 * _MAX_VARINT):
        raise FormatError(f"{value} bytes are too many for one section")
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _inflate(packed: bytes | None, name: str) -> bytes | None:
    if packed is None:
        return None
    inflater = zlib.decompressobj()
    try:
        data = inflater.decompress(packed, MAX_METADATA + 1)
    except zlib.error as error:
        raise FormatError(f"the file is damaged: {name} does not decompress ({error})") from error
    if len(data) > MAX_METADATA:
        raise FormatError(f"the {name} is too large: at most {MAX_METADATA} bytes")
    if not inflater.eof or inflater.unused_data or inflater.unconsumed_tail:
        raise FormatError(f"the file is damaged: {name} does not decompress to its end")
    return data
