"""The pictures of studies: those of a folder, and larger ones made of them by mirroring."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from flic.pictures import images
from flic.pictures.images import Picture


def paths(folder: Path) -> list[Path]:
    """The folder's pictures, by name."""
    return [path for path in sorted(folder.iterdir()) if path.suffix.lower() in images.SUFFIXES]


def pictures(folder: Path) -> Iterator[tuple[str, Picture]]:
    """(name, picture) of every picture in a folder, by name, without metadata."""
    for path in paths(folder):
        yield path.stem, images.read(path, strip=True)


def mirrored(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """uint8 [H, W, 3], cut or continued by mirroring to [height, width, 3]."""
    pixels = pixels[:height, :width]
    below, right = height - pixels.shape[0], width - pixels.shape[1]
    return np.pad(pixels, ((0, below), (0, right), (0, 0)), mode="symmetric")
