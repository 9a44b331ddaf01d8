"""Folders of pictures: found, checked, decoded once where memory allows."""

from __future__ import annotations

import hashlib
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import PictureError
from ..pictures import images
from .randomness import split_rng

_SCANNERS = 8
_TRAIN, _TEST = "train", "test"


def find_pictures(folder: str | Path) -> list[Path]:
    """Every picture below a folder, sorted; FileNotFoundError where there is none."""
    folder = Path(folder)
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in images.SUFFIXES)
    if not found:
        raise FileNotFoundError(f"no pictures in {folder}")
    return found


def subfolders(folder: str | Path) -> tuple[Path, Path | None]:
    """Training and validation folder: train/ and test/ where both are there (CompressAI's layout),
    else the folder itself and None."""
    train, test = Path(folder) / _TRAIN, Path(folder) / _TEST
    return (train, test) if train.is_dir() and test.is_dir() else (Path(folder), None)


@dataclass(frozen=True)
class File:
    """A picture's file and its (width, height), as its header has them."""

    path: Path
    size: tuple[int, int]


def scan(folder: str | Path, least: int, report: Callable[[str], None]) -> list[File]:
    """The pictures below a folder, from their headers alone, sorted by path.

    Files that are no pictures, and pictures with a side under `least` pixels, are left out and
    reported. Raises FileNotFoundError where there are no files, ValueError where none is left.
    """
    paths = find_pictures(folder)
    with ThreadPoolExecutor(_SCANNERS) as pool:
        sizes = list(pool.map(_size, paths))
    known = []
    for path, size in zip(paths, sizes, strict=True):
        if isinstance(size, str):
            report(f"left out: {path}: {size}")
        else:
            known.append(File(path, size))
    large = [file for file in known if min(file.size) >= least]
    if len(large) < len(known):
        report(f"left out: {len(known) - len(large)} pictures under {least} x {least} pixels")
    if not large:
        raise ValueError(f"no picture in {folder} can be read and is at least {least} x {least}")
    return large


def hold_out(files: list[File], count: int, seed: int) -> tuple[list[File], list[File]]:
    """(the others, `count` files chosen by the seed); ValueError where no other would be left."""
    if count >= len(files):
        raise ValueError(f"cannot hold out {count} of {len(files)} pictures")
    chosen = set(split_rng(seed).permutation(len(files))[:count].tolist())
    rest = [file for i, file in enumerate(files) if i not in chosen]
    return rest, [file for i, file in enumerate(files) if i in chosen]


def digest(folder: str | Path, files: list[File]) -> str:
    """16 hexadecimal digits of the pictures' names, relative to the folder, and sizes."""
    names = (file.path.relative_to(folder).as_posix() for file in files)
    lines = "".join(f"{name}\0{file.size}\n" for name, file in zip(names, files, strict=True))
    return hashlib.sha256(lines.encode()).hexdigest()[:16]


class Pictures:
    """Decoded pictures by index, as uint8 [H, W, 3].

    Up to `cache` bytes of them (3 a pixel) are kept. A file that turns out to be damaged is
    reported, once. Threads may share an instance.
    """

    def __init__(self, files: list[File], cache: int, report: Callable[[str], None]):
        self.files, self._room, self._report = files, cache, report
        self._lock, self._kept, self._bad = threading.Lock(), {}, set()

    def __len__(self) -> int:
        return len(self.files)

    def read(self, index: int) -> np.ndarray | None:
        """A picture, or None where its file is damaged."""
        picture = self._kept.get(index)
        if picture is not None or index in self._bad:
            return picture
        try:
            picture = images.read(self.files[index].path, strip=True).pixels
        except PictureError as error:
            with self._lock:
                known = index in self._bad
                self._bad.add(index)
            if not known:
                self._report(f"left out: {error}")
            return None
        with self._lock:
            if index not in self._kept and picture.nbytes <= self._room:
                self._room -= picture.nbytes
                self._kept[index] = picture
        return picture


def _size(path: Path) -> tuple[int, int] | str:
    """(width, height) from a file's header, or why there is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=images.FORMATS) as image:
                return image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return " ".join(str(error).split()) or type(error).__name__
