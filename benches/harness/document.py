"""Tables in Markdown, and parts of a document that commands write, each between two comments.

    python -m benches.harness.document FILE:PART RESULTS

puts the means and BD-rates of a results.md, as `flic eval --out` writes it, into a part.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

Place = tuple[Path, str]
"""A document and the name of one of its parts."""


class MarkersMissing(ValueError):
    """The document has no such part."""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """In Markdown."""
    lines = [head, *rows]
    texts = [f"| {' | '.join(cells)} |" for cells in lines]
    return "\n".join([texts[0], "|" + "---|" * len(head), *texts[1:]])


def part(path: Path, name: str) -> str:
    """What stands between NAME's markers."""
    return _split(path, name)[1].strip("\n")


def replace(path: Path, name: str, text: str) -> None:
    """Put a text between NAME's markers."""
    before, _, after = _split(path, name)
    path.write_text(f"{before}\n{text}\n{after}")


def add_option(parser: argparse.ArgumentParser, name: str) -> None:
    """--write FILE[:PART], for tables that stand in the part `name` if no other is given."""
    parser.add_argument(
        "--write",
        type=place(name),
        metavar="FILE[:PART]",
        help=f"put what is found between the markers of PART (default: {name}) in a document",
    )


def place(default: str) -> Callable[[str], Place]:
    """argparse's type of FILE or FILE:PART; an error, before anything is measured, where the
    document has no such part."""

    def parse(argument: str) -> Place:
        path, _, name = argument.partition(":")
        found = Path(path), name or default
        try:
            part(*found)
        except (OSError, MarkersMissing) as error:
            raise argparse.ArgumentTypeError(f"{path}: {error}") from error
        return found

    return parse


def _split(path: Path, name: str) -> tuple[str, str, str]:
    """Up to the first marker and with it, between, from the second marker on."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, found, rest = path.read_text().partition(begin)
    inside, closed, after = rest.partition(end)
    if not found or not closed:
        raise MarkersMissing(f"no {begin} ... {end} in it")
    return before + begin, inside, end + after


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("place", type=place(""), metavar="FILE:PART")
    parser.add_argument("results", type=Path)
    given = parser.parse_args(arguments)
    paragraphs = given.results.read_text().split("\n\n")
    tables = [text for text in paragraphs if text.startswith(("| mean of ", "| curve "))]
    replace(*given.place, "\n\n".join(tables))


if __name__ == "__main__":
    main(sys.argv[1:])
