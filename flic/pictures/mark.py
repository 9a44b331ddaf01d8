"""The mark in the pictures that flic writes, by which it knows them again.

It says that flic wrote the file and has the SHA-256 of all the rest, so a picture that was changed
since carries none, whatever of it another program copied. It stands where a format keeps what is no
part of the picture: pixels, EXIF and profile are as without it.
"""

import hashlib
import struct
import zlib

TEXT = b"written by flic, sha256 of the rest: "
_DIGITS = 64
_SLOT = _DIGITS + 4
"""Bytes of the file that the digest leaves out: its own digits, and PNG's checksum of them."""


def add(data: bytes, name: str) -> bytes:
    """The picture file with its mark. name: Pillow's, of its format."""
    head, rest, tail = _parts(data, name)
    digits = hashlib.sha256(head + rest).hexdigest().encode()
    if name == "PNG":
        chunk = head[head.rindex(b"tEXt") :] + digits
        tail = struct.pack(">I", zlib.crc32(chunk))
    return head + digits + tail + rest


def is_in(data: bytes) -> bool:
    """Whether a file's bytes are as flic wrote them."""
    start = data.rfind(TEXT)
    if start < 0:
        return False
    start += len(TEXT)
    digits = hashlib.sha256(data[:start] + data[start + _SLOT :]).hexdigest().encode()
    return data[start : start + _DIGITS] == digits


def _parts(data: bytes, name: str) -> tuple[bytes, bytes, bytes]:
    """What stands before the digest and after it, and the 4 bytes between that it leaves out."""
    size = len(TEXT) + _SLOT
    if name == "PNG":  # a text chunk before the last, IEND, of 12 bytes
        keyword = b"Software\0"
        chunk = struct.pack(">I", len(keyword) + size - 4) + b"tEXt" + keyword
        return data[:-12] + chunk + TEXT, data[-12:], bytes(4)
    if name == "JPEG":  # a comment, behind the JFIF header that must come first
        start = 4 + data[5] if data[2:4] == b"\xff\xe0" else 2
        return (
            data[:start] + b"\xff\xfe" + struct.pack(">H", size + 2) + TEXT,
            data[start:],
            b"    ",
        )
    if name == "WEBP":  # a chunk that readers pass over, of an even size
        padding = bytes(size % 2)
        head = data[:4] + struct.pack("<I", len(data) + size + len(padding)) + data[8:]
        return head + b"FLIC" + struct.pack("<I", size) + TEXT, padding, bytes(4)
    if name == "AVIF":  # a box of free space
        return data + struct.pack(">I", size + 8) + b"free" + TEXT, b"", bytes(4)
    return data + TEXT, b"", b"   \n"  # TIFF, BMP: behind what their headers point to
