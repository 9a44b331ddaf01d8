"""What the entropy coder spends beyond the ideal code length, part by part, on simulated latents.

Run: python -m benches.rans_overhead. Prints a table in Markdown (docs/rans.md holds one).
"""

import torch

from benches.rans_data import simulate
from flic_kernels import rans

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


def main():
    tables = rans.gaussian_tables()
    print(
        "| symbols | bits each | ideal | lanes | whole | tables | escapes | header | lanes | rANS |"
    )
    print("|" + "---|" * 10)
    for count, rate in CASES:
        data = simulate(count, rate)
        indexes, centers = rans.gaussian_indexes(data.means, data.scales, tables)
        symbols = data.y - centers
        stream = rans.encode(symbols, indexes, tables)
        assert torch.equal(rans.decode(stream, indexes, tables), symbols)
        ideal = data.ideal / 8
        lanes, header, escapes = sections(stream)
        coded = tables.bits(symbols, indexes) / 8
        rest = len(stream) - coded - header - lanes / 2
        parts = [len(stream) - ideal, coded - escapes - ideal, escapes, header, lanes / 2, rest]
        cells = [f"{part:+.0f} ({100 * part / ideal:.2f} %)" for part in parts]
        print(f"| {count} | {rate:.2f} | {ideal:.0f} | {lanes} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
