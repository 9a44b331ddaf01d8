"""Mutates .flic files and reads them: the container and the streams in it must be read or refused
with FormatError.

Usage: python fuzz/container_fuzzer.py SECONDS. Half of the mutants get a right checksum, so that
what lies behind it is reached.
"""

import dataclasses
import random
import struct
import sys
import time
import zlib

from flic import errors
from flic.format import container, stream


def seeds() -> list[bytes]:
    """Files to begin with."""
    short = stream.pack(stream.Stream(1, (2, 3), b"payload"))
    long = stream.pack(stream.Stream(1 << 31, (0,) * 255, bytes(500)))
    plain = container.Container(5, 7, bytes(8), (short,))
    full = container.Container(
        300, 200, bytes(range(8)), (long,), True, b"alpha", b"icc" * 50, b"exif" * 9
    )
    tiled = container.Container(300, 200, bytes(8), (short, short), exif=b"exif", tile=256)
    tall = container.Container(1, 600, bytes(8), (short, long, short, short, short), tile=128)
    coarse = dataclasses.replace(full, step=3.5)
    fine = dataclasses.replace(tiled, step=0.25)
    return [container.pack(file) for file in (plain, full, tiled, tall, coarse, fine)]


def mutate(data: bytes, rng: random.Random) -> bytes:
    """The data with one to four changes."""
    data = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        kind, at = rng.randrange(5), rng.randrange(len(data) + 1)
        if kind == 0:
            del data[at:]
        elif kind == 1:
            data[at:at] = rng.randbytes(rng.randint(1, 8))
        elif kind == 2:
            del data[at : at + rng.randint(1, 8)]
        elif data[at : at + 1]:
            data[at] = rng.choice((0, 127, 128, 255, data[at] ^ 1 << rng.randrange(8)))
    if len(data) >= 4 and rng.random() < 0.5:
        data[-4:] = struct.pack("<I", zlib.crc32(bytes(data[:-4])))
    return bytes(data)


def readable(data: bytes) -> bool:
    """Whether a file can be read down to its rANS streams; raises whatever is no FormatError."""
    try:
        for coded in container.unpack(data).streams:
            stream.unpack(coded)
    except errors.FormatError:
        return False
    return True


def main() -> None:
    rng = random.Random(time.time_ns())
    originals, end, tried, read = seeds(), time.monotonic() + float(sys.argv[1]), 0, 0
    while time.monotonic() < end:
        data = mutate(rng.choice(originals), rng)
        tried += 1
        try:
            read += readable(data)
        except Exception:
            print(f"failed on {data.hex()}", file=sys.stderr)
            raise
    print(f"container: {tried} mutants, {read} of them readable, no failure")


if __name__ == "__main__":
    main()
