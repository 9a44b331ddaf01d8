"""The benchmarks: suites, which make one table, one chart and one file of rows, and studies.

    python -m benches [SUITE ...] [options]
    python -m benches STUDY [options]
    python -m benches --list | --help | NAME --help

All suites run where none is named. What follows them is for pytest, which runs them: -k NAME for
some of their cases, and these of their own:

    --no-compile       without torch.compile of the eager reference, which takes minutes
    --rows FILE        the rows (default: runs/bench/rows.json)
    --chart FILE       the chart, FILE.png and FILE.svg (default: runs/bench/chart)
    --write FILE:PART  the rows into a document, between its comments "PART: begin" and "PART: end"
                       (without :PART "bench")
    --device cpu|cuda  default: cuda where there is a GPU
    --dtypes NAMES     default: float32,bfloat16
    --seconds N        of timing a problem and mode
    --budget SECONDS   what has not begun by then is skipped, and said to be
    --small            tiny inputs: shows that everything runs; its times say nothing

Nothing else should run on the machine meanwhile. Implementations are compared with the float64
reference first, then timed in turns by pytest-benchmark, so that a ratio's two times are of one
moment. A wrong result shows as WRONG, without a time, and the exit status is not 0.
"""

import ast
import importlib
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
SUITES = ("ops", "transforms", "codec", "training")  # in the order of the table
STUDIES = tuple(sorted(path.stem for path in HERE.glob("studies/[!_]*.py")))
OUT = Path("runs/bench")
QUIET = (
    "-q", "--tb=short", "--show-capture=no", "-r", "N", "-W", "ignore",
    "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:hypothesispytest",
)  # fmt: skip


def described(folder: str, name: str) -> str:
    """The docstring of a suite or study, which is not imported for it."""
    return ast.get_docstring(ast.parse((HERE / folder / f"{name}.py").read_text()))


def listing() -> str:
    """Every suite and study with the first line of its docstring."""
    lines = []
    for folder, names in (("suites", SUITES), ("studies", STUDIES)):
        lines.append(f"{folder}:")
        lines += [f"  {name:16} {described(folder, name).splitlines()[0]}" for name in names]
    return "\n".join(lines)


def refused(why: str) -> int:
    print(f"benches: {why} (python -m benches --list names all)", file=sys.stderr)
    return 2


def run_suites(names: Sequence[str], options: Sequence[str]) -> int:
    import pytest  # an optional dependency, which studies do without

    given = [*QUIET, "--rootdir", str(HERE.parent), *(str(HERE / f"suites/{n}.py") for n in names)]
    for option, default in (("--rows", OUT / "rows.json"), ("--chart", OUT / "chart")):
        if not any(a == option or a.startswith(f"{option}=") for a in options):
            given += [option, str(default)]
    return int(pytest.main([*given, *options]))


def main(arguments: Sequence[str]) -> int:
    names = list(itertools.takewhile(lambda a: not a.startswith("-"), arguments))
    options = arguments[len(names) :]
    if names and names[0] in STUDIES:
        study = importlib.import_module(f"benches.studies.{names[0]}")
        return study.main(arguments[1:]) or 0
    for name in names:
        if name in STUDIES:
            return refused(f"{name} is a study, which runs alone")
        if name not in SUITES:
            return refused(f"no suite or study {name!r}")
    if "--list" in options:
        print(listing())
    elif {"-h", "--help"} & set(options):
        print("\n".join([*(described("suites", name) + "\n" for name in names), __doc__]))
        print(listing())
    else:
        return run_suites(names or SUITES, options)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
