"""A study's command line, whose help is its docstring, and where its findings go."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from . import document
from .environment import environment
from .rows import Row, of_table, write


def parser(
    study: str, description: str, model: str | None = None, publishes: bool = True
) -> argparse.ArgumentParser:
    """For a study's options; `study` is its module's `__name__`.

    Where `model` says what the model is without -m, with --photos DIR and -m MODEL; where it
    `publishes` a table, with --write FILE[:PART] and --json FILE.
    """
    name = study.rpartition(".")[2]
    made = argparse.ArgumentParser(
        prog=f"python -m benches {name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.set_defaults(study=name)
    if model:
        made.add_argument("--photos", type=Path, required=True, help="folder of pictures")
        made.add_argument("-m", "--model", help=f"name or checkpoint (default: {model})")
    if publishes:
        document.add_option(made, name)
        made.add_argument("--json", type=Path, metavar="FILE", help="write the rows, one a line")
    return made


def publish(
    given: argparse.Namespace,
    head: Sequence[str],
    lines: Sequence[Sequence[str]],
    rows: list[Row] | None = None,
) -> None:
    """Print a table in Markdown, and do what --write and --json ask for.

    rows: what --json writes; default: the table's lines.
    """
    text = document.table(head, lines)
    print(text, flush=True)
    if given.write:
        document.replace(*given.write, text)
    if given.json:
        if rows is None:
            rows = of_table(given.study, head, lines, **environment())
        write(rows, given.json)
