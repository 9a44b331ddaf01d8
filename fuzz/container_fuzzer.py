"""Mutates .flic files and reads them: flic.container.unpack must return or raise FormatError.

Usage: python fuzz/container_fuzzer.py SECONDS. Half of the mutants get a right checksum, so that
what lies behind it is reached.
"""

import random
import struct
import sys
import time
import zlib

from flic import container, errors


def seeds() -> list[bytes]:
    plain = container.Container(5, 7, bytes(8), b"stream")
    full = container.Container(
        300, 200, bytes(range(8)), bytes(500), True, b"alpha", b"icc" * 50, b"exif" * 9
    )
    return [container.pack(plain), container.pack(full)]


def mutate(data: bytes, rng: random.Random) -> bytes:
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


def main() -> None:
    rng = random.Random(time.time_ns())
    originals, end, tried, read = seeds(), time.monotonic() + float(sys.argv[1]), 0, 0
    while time.monotonic() < end:
        data = mutate(rng.choice(originals), rng)
        tried += 1
        try:
            container.unpack(data)
            read += 1
        except errors.FormatError:
            pass
        except Exception:
            print(f"failed on {data.hex()}", file=sys.stderr)
            raise
    print(f"container: {tried} mutants, {read} of them readable, no failure")


if __name__ == "__main__":
    main()
