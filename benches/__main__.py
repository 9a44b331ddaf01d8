"""The benchmarks: one table, one chart, one file of rows.

    python -m benches [GROUP ...] [options]

Groups: ops (FAT blocks among them), transforms, codec, training; all of them where none is named.
What follows is for pytest, which runs them: -k NAME for some of them, and these of their own:

    --no-compile       without torch.compile of the eager reference, which takes minutes
    --rows FILE        the rows (default: runs/bench/rows.json)
    --chart FILE       the chart, FILE.png and FILE.svg (default: runs/bench/chart)
    --write FILE       the rows into a document, between its comments "bench: begin" and "end"
    --device, --dtypes, --seconds, --budget, --small: see pytest benches/bench_ops.py --help

Nothing else should run on the machine meanwhile. Implementations are compared with the float64
reference first, then timed in turns by pytest-benchmark, so that a ratio's two times are of one
moment. A wrong result shows as WRONG, without a time, and the exit status is not 0. The coder and
the exact engine have benchmarks of their own: python -m benches.bench_rans, benches.bench_exact.
"""

import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

HERE = Path(__file__).parent
GROUPS = ("ops", "transforms", "codec", "training")
OUT = Path("runs/bench")
QUIET = (
    "-q", "--tb=short", "--show-capture=no", "-r", "N", "-W", "ignore",
    "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:hypothesispytest",
)  # fmt: skip


def pytest_arguments(groups: Sequence[str]) -> list[str]:
    """What pytest is given to run these groups."""
    return [*QUIET, "--rootdir", str(HERE.parent), *(str(HERE / f"bench_{g}.py") for g in groups)]


def main(arguments: Sequence[str]) -> int:
    if {"-h", "--help"} & set(arguments):
        print(__doc__)
        return 0
    rest = list(itertools.dropwhile(lambda a: not a.startswith("-"), arguments))
    groups = arguments[: len(arguments) - len(rest)] or GROUPS
    if unknown := [group for group in groups if group not in GROUPS]:
        print(f"benches: no group {unknown[0]!r} (there are {', '.join(GROUPS)})", file=sys.stderr)
        return 2
    for option, default in (("--rows", OUT / "rows.json"), ("--chart", OUT / "chart")):
        if not any(a == option or a.startswith(f"{option}=") for a in rest):
            rest += [option, str(default)]
    return int(pytest.main([*pytest_arguments(groups), *rest]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
