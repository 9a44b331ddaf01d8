"""Parts of a document that a command writes: they stand between two comments."""

from __future__ import annotations

from pathlib import Path


class MarkersMissing(ValueError):
    """The document has no such part."""


def part(path: Path, name: str) -> str:
    """What stands between NAME's markers."""
    return _split(path, name)[1].strip("\n")


def replace(path: Path, name: str, text: str) -> None:
    """Put a text between NAME's markers."""
    before, _, after = _split(path, name)
    path.write_text(f"{before}\n{text}\n{after}")


def _split(path: Path, name: str) -> tuple[str, str, str]:
    """Up to the first marker and with it, between, from the second marker on."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, found, rest = path.read_text().partition(begin)
    inside, closed, after = rest.partition(end)
    if not found or not closed:
        raise MarkersMissing(f"no {begin} ... {end} in it")
    return before + begin, inside, end + after
