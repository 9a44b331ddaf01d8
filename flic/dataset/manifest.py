"""The manifest: a line of JSON for each picture, and the numbers of a run."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from ..output import make_folder, write_atomic

NAME = "manifest.jsonl"
"""The manifest's name in the output folder."""


@dataclass(frozen=True)
class Record:
    """A line of the manifest: what became of one picture.

    path: of the picture, from the input folder (or the list's folder) on; absolute where it lies
    elsewhere. status: "ok" or "failed". error: what is wrong with the picture, one line; the others
    are then None, and this one is None where nothing is. file: of the .flic file, from the output
    folder on. width, height: pixels. bytes: of the file. bpp: 8 bytes / (width height).
    fingerprint: of the model that made the file. sha256: of the file, hexadecimal. step: the
    quantisation step.
    """

    path: str
    status: str
    error: str | None = None
    file: str | None = None
    width: int | None = None
    height: int | None = None
    bytes: int | None = None
    bpp: float | None = None
    fingerprint: str | None = None
    sha256: str | None = None
    step: float | None = None


class Result(NamedTuple):
    """encoded: whether the picture was coded now; else its file was up to date, or it failed."""

    record: Record
    encoded: bool

    def to_json(self) -> str:
        """One line of ASCII."""
        return json.dumps([asdict(self.record), self.encoded])

    @classmethod
    def from_json(cls, text: str) -> Result:
        """What `to_json` gave."""
        record, encoded = json.loads(text)
        return cls(Record(**record), encoded)


def write(path: Path, records: Iterable[Record]) -> None:
    """Write a manifest, ordered by path: whole or not at all. Raises OutputError."""
    ordered = sorted(records, key=lambda record: record.path)
    write_file(path, b"".join(json.dumps(asdict(r)).encode() + b"\n" for r in ordered))


def write_file(path: Path, data: bytes) -> None:
    """`write_atomic` into a folder that need not be there. Raises OutputError."""
    make_folder(path.parent)
    write_atomic(path, data)


def is_one(path: Path) -> bool:
    """Whether a file is a manifest, as far as its first line says."""
    with path.open() as file:
        try:
            return bool(Record(**json.loads(file.readline())).path)
        except (TypeError, ValueError):
            return False


def read(path: Path) -> list[Record]:
    """The lines of a manifest."""
    return [Record(**json.loads(line)) for line in path.read_text().splitlines()]


def summary(results: list[Result], seconds: float) -> dict:
    """Counts, sizes and speed; bpp is all bytes over all pixels, None where nothing is there."""
    good = [result.record for result in results if result.record.status == "ok"]
    counts = Counter(result.record.status for result in results)
    encoded = [result.record for result in results if result.encoded]
    size, pixels = sum(r.bytes for r in good), sum(r.width * r.height for r in good)
    return {
        "pictures": len(results),
        "encoded": len(encoded),
        "up_to_date": counts["ok"] - len(encoded),
        "failed": counts["failed"],
        "bytes": size,
        "bpp": 8 * size / pixels if pixels else None,
        "seconds": seconds,
        "megapixels_per_second": sum(r.width * r.height for r in encoded) / 1e6 / seconds,
    }
