"""What the benchmarks on photographs share: their options and their pictures."""

import argparse
from collections.abc import Iterator
from pathlib import Path

from flic.pictures import images
from flic.pictures.images import Picture


def options(description: str) -> argparse.Namespace:
    """--photos DIR and -m MODEL, parsed."""
    return parser(description).parse_args()


def parser(description: str, model: str = "the built-in one") -> argparse.ArgumentParser:
    """For --photos DIR, -m MODEL and what the caller adds. model: what it is without -m."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True, help="folder of pictures")
    parser.add_argument("-m", "--model", help=f"name or checkpoint (default: {model})")
    return parser


def pictures(folder: Path) -> Iterator[tuple[str, Picture]]:
    """(name, picture) of every picture in a folder, by name, without metadata."""
    for path in paths(folder):
        yield path.stem, images.read(path, strip=True)


def paths(folder: Path) -> list[Path]:
    """The folder's pictures, by name."""
    return [path for path in sorted(folder.iterdir()) if path.suffix.lower() in images.SUFFIXES]
