"""The command lines of studies: their help is their docstring."""

import argparse
from pathlib import Path

from . import document


def parser(
    study: str, description: str, model: str | None = None, writes: bool = False
) -> argparse.ArgumentParser:
    """For a study's options; `study` is its module's `__name__`.

    Where `model` says what the model is without -m, with --photos DIR and -m MODEL; where it
    `writes` its table into a document, with --write FILE[:PART].
    """
    name = study.rpartition(".")[2]
    made = argparse.ArgumentParser(
        prog=f"python -m benches {name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if model:
        made.add_argument("--photos", type=Path, required=True, help="folder of pictures")
        made.add_argument("-m", "--model", help=f"name or checkpoint (default: {model})")
    if writes:
        made.add_argument(
            "--write",
            type=document.place(name),
            metavar="FILE[:PART]",
            help=f"put the table between the markers of PART (default: {name}) in a document",
        )
    return made
