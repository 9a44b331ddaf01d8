"""Writes rans.npz, the fixed streams of the entropy coder, with the Python reference.

Run from the repository root: PYTHONPATH=.:tests/helpers python tests/golden/make_rans.py. It needs
running only when the format changes; the numbers come from a generator that is written out here.
"""

from pathlib import Path

import numpy as np
from rans_cases import small_tables

from flic_kernels import rans
from flic_kernels.rans import reference as rans_reference

# name: (which tables, symbols in each push, lanes, groups, one symbol in so many is any int32)
CASES = {
    "empty": ("small", [0], None, None, 0),
    "no_push": ("small", [], None, None, 0),
    "one": ("small", [1], None, None, 0),
    "chosen": ("gaussian", [900, 300], None, None, 0),
    "lanes1": ("small", [100, 57], 1, 1, 9),
    "lanes2": ("small", [100, 57], 2, 1, 9),
    "lanes4": ("gaussian", [61, 400], 4, 1, 50),
    "lanes8": ("gaussian", [61, 800], 8, 1, 50),
    "lanes16": ("small", [200, 333], 16, 1, 0),
    "lanes32": ("gaussian", [192, 3000], 32, 1, 100),
    "groups": ("gaussian", [100, 1500], 32, 4, 100),
    "escapes": ("small", [500], None, None, 1),
}


def generator(seed):
    """A linear congruential generator: uniform numbers below `limit`, the same for ever."""
    state = seed

    def below(limit):
        nonlocal state
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (state >> 33) * limit >> 31

    return below


def push(tables, count, any_in, below):
    """Symbols drawn from the tables by their frequencies."""
    symbols, indexes = [], []
    for _ in range(count):
        index = below(len(tables))
        first = tables.first[index]
        slot, k = below(2**15), 0
        while slot >= tables.frequencies[first + k]:
            slot -= tables.frequencies[first + k]
            k += 1
        symbol = int(tables.minimum[index]) + k
        if any_in and below(any_in) == 0:
            symbol = below(2**31) * 2 - 2**31 + below(2)
        symbols.append(symbol)
        indexes.append(index)
    return np.array(symbols, np.int32), np.array(indexes, np.int32)


def main():
    known = {"small": small_tables(), "gaussian": rans.gaussian_tables()}
    arrays = {}
    for seed, (name, (which, counts, lanes, groups, any_in)) in enumerate(CASES.items()):
        below = generator(seed)
        pushes = [push(known[which], count, any_in, below) for count in counts]
        lists = [(s.tolist(), i.tolist(), known[which]) for s, i in pushes]
        stream = rans_reference.encode(lists, lanes, groups)
        arrays[f"{name}.stream"] = np.frombuffer(stream, np.uint8)
        arrays[f"{name}.options"] = np.array([which, str(lanes or 0), str(groups or 0)])
        for p, (symbols, indexes) in enumerate(pushes):
            arrays[f"{name}.{p}.symbols"], arrays[f"{name}.{p}.indexes"] = symbols, indexes
    np.savez_compressed(Path(__file__).with_name("rans.npz"), **arrays)


if __name__ == "__main__":
    main()
