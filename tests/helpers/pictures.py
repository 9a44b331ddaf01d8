"""Picture files: those that Pillow cannot write, by hand from the specifications, and helpers."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

from flic.cli.show import ASSETS


def png_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(samples: np.ndarray, depth: int, colour: int, *chunks: bytes) -> bytes:
    """samples: [H, W, C] integers of `depth` bits (1, 2, 4: C = 1); colour: PNG's colour type."""
    height, width = samples.shape[:2]
    if depth == 16:
        rows = [row.astype(">u2").tobytes() for row in samples]
    elif depth == 8:
        rows = [row.astype(np.uint8).tobytes() for row in samples]
    else:
        bits = (samples[..., 0, None] >> np.arange(depth - 1, -1, -1)) & 1
        rows = [np.packbits(row.reshape(-1).astype(np.uint8)).tobytes() for row in bits]
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + b"".join(chunks)
        + png_chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
        + png_chunk(b"IEND", b"")
    )


def tiff(
    samples: np.ndarray,
    photometric: int,
    *,
    order: str = "<",
    deflate: bool = False,
    extra: int | None = None,
    planar: int = 1,
) -> bytes:
    """samples: uint16 [H, W, C]; one strip (planar 2: one a channel)."""
    height, width, channels = samples.shape
    planes = samples.transpose(2, 0, 1) if planar == 2 else samples[None]
    strips = [plane.astype(order + "u2").tobytes() for plane in planes]
    if deflate:
        strips = [zlib.compress(strip) for strip in strips]
    offsets = [8 + sum(map(len, strips[:i])) for i in range(len(strips))]
    tags = {
        256: (4, [width]),
        257: (4, [height]),
        258: (3, [16] * channels),
        259: (3, [8 if deflate else 1]),
        262: (3, [photometric]),
        273: (4, offsets),
        277: (3, [channels]),
        278: (4, [height]),
        279: (4, [len(strip) for strip in strips]),
        284: (3, [planar]),
    }
    if extra is not None:
        tags[338] = (3, [extra])
    body = b"".join(strips)
    start = 8 + len(body)
    spill = start + 2 + 12 * len(tags) + 4
    entries, spilled = b"", b""
    for tag, (kind, values) in tags.items():
        packed = struct.pack(order + {3: "H", 4: "I"}[kind] * len(values), *values)
        if len(packed) > 4:
            where = struct.pack(order + "I", spill + len(spilled))
            spilled += packed
            packed = where
        entries += struct.pack(order + "HHI", tag, kind, len(values)) + packed.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", start)
    return head + body + struct.pack(order + "H", len(tags)) + entries + bytes(4) + spilled


def saved(image: Image.Image, name: str, **options) -> bytes:
    """A picture as a file of the format that Pillow calls `name`."""
    out = io.BytesIO()
    image.save(out, name, **options)
    return out.getvalue()


def by_257(samples: np.ndarray) -> np.ndarray:
    """16-bit samples as 8-bit ones."""
    return np.floor(samples / 257 + 0.5).astype(np.uint8)


def photograph(width: int, height: int) -> np.ndarray:
    """The upper right of the parrot, at most 512 pixels a side; uint8 [height, width, 3]."""
    return np.array(Image.open(ASSETS / "parrot.png"))[:height, 512 - width :]
