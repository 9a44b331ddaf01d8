"""What the entropy coder spends beyond the ideal code length, part by part, on simulated latents.

    python -m benches rans_overhead [--write FILE[:PART]] [--json FILE]

Prints a table in Markdown. "Checks" and "file" are the frames of
docs/format.md for five slices of a 768x512 picture.
"""

from collections.abc import Sequence

import torch

from benches.harness import study
from benches.harness.simulated_latents import simulate
from flic.format import container, stream
from flic_kernels import rans

HEAD = (
    "symbols", "bits each", "ideal", "lanes", "stream", "tables", "escapes", "header", "states",
    "rANS", "checks", "file", "everything counted",
)  # fmt: skip
# (symbols, bits a symbol)
CASES = [
    (491_520, 0.05),
    (491_520, 0.0814),
    (491_520, 0.25),
    (491_520, 0.5),
    (491_520, 1.0),
    (491_520, 2.0),
    (122_880, 0.326),
    (40_960, 1.0),
    (20_480, 2.0),
]


def sections(data: bytes) -> tuple[int, int, int]:
    """(lanes, header bytes, escape bytes) of a stream of one group."""
    at = 1

    def code():
        nonlocal at
        value = shift = 0
        while True:
            value |= (data[at] & 127) << shift
            at, shift = at + 1, shift + 7
            if data[at - 1] < 128:
                return value

    lanes = 1 << (data[0] & 7)
    code()
    if lanes > 1:
        code()
    escapes = code()
    return lanes, at, escapes


def framed(payload: bytes) -> tuple[int, int]:
    """Bytes of the checks and of the file around a rANS stream, without metadata."""
    coded = stream.pack(stream.Stream(0, (0,) * 5, payload))
    file = container.pack(container.Container(768, 512, bytes(8), (coded,)))
    return len(coded) - len(payload), len(file) - len(coded)


def main(arguments: Sequence[str]) -> None:
    given = study.parser(__name__, __doc__).parse_args(arguments)
    tables, lines = rans.gaussian_tables(), []
    for count, rate in CASES:
        data = simulate(count, rate)
        indexes, centers = rans.gaussian_indexes(data.means, data.scales, tables)
        symbols = data.y - centers
        payload = rans.encode(symbols, indexes, tables)
        assert torch.equal(rans.decode(payload, indexes, tables), symbols)
        ideal = data.ideal / 8
        lanes, header, escapes = sections(payload)
        coded = tables.bits(symbols, indexes) / 8
        rest = len(payload) - coded - header - lanes / 2
        checks, file = framed(payload)
        over = len(payload) - ideal
        shares = [over, coded - escapes - ideal, header, lanes / 2, rest, over + checks + file]
        cells = [f"{part:+.0f} ({100 * part / ideal:.2f} %)" for part in shares]
        cells[2:2] = [f"{escapes:+}"]
        cells[-1:-1] = [f"{checks:+}", f"{file:+}"]
        lines.append([f"{count}", f"{rate:.2f}", f"{ideal:.0f}", f"{lanes}", *cells])
    study.publish(given, HEAD, lines)
