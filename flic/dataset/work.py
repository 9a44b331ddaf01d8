"""What is to be done, and one worker's part of it."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .. import output
from ..codec.rate import Rate
from ..errors import FlicError, ForeignFileError, OutputError
from ..format import container, tile_grid
from ..format.container import Container
from ..model import library
from .manifest import Record, Result, write_file

if TYPE_CHECKING:
    from ..codec.codec import Codec


class Job(NamedTuple):
    """name: of the picture in the manifest. source, target: absolute paths of picture and file."""

    name: str
    source: str
    target: str


@dataclass(frozen=True)
class Task:
    """What all workers do.

    out: the output folder. model: a name or a checkpoint's path, None for the default. models: the
    folder of further models, None for the user's. device: as torch names it. dtype: of g_a. tile:
    as for `flic.encode`. strip: drop ICC profiles and EXIF. force: code again what is up to date.
    overwrite: replace files that flic did not write. rate: what the quantisation steps follow from.
    Paths are absolute.
    """

    out: str
    model: str | None = None
    models: str | None = None
    device: str = "cpu"
    dtype: str = "float32"
    tile: int | str = "auto"
    strip: bool = False
    force: bool = False
    overwrite: bool = False
    rate: Rate = Rate()


def listed(path: Path, out: Path) -> list[tuple[Path, Path]]:
    """The pictures that a text file names, one path a line, and the places of their results.

    A relative path counts from the list's folder. A result has its picture's place below that
    folder, or where the picture lies elsewhere its absolute one, in the output folder.
    Raises FlicError where the list cannot be read or is empty.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise FlicError(f"{path}: {error.strerror or error}") from error
    folder = os.path.abspath(path.parent)
    found = {}
    for line in filter(None, map(bytes.strip, lines)):
        source = Path(os.path.normpath(os.path.join(folder, os.fsdecode(line))))
        inside = source.is_relative_to(folder)
        found[source] = out / source.relative_to(folder if inside else source.anchor)
    if not found:
        raise FlicError(f"{path}: names no pictures")
    return list(found.items())


class Worker:
    """Codes one picture after the other, on one CPU thread; the model is loaded once, by the first
    picture that needs it: where all are up to date, neither it nor torch is."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self._models = None if task.models is None else Path(task.models)
        path = library.locate(task.model, self._models)
        self._stated, self._metadata = library.fingerprint(path), library.metadata(path)
        task.rate.fixed(self._metadata)  # a quality that the model lacks ends the work

    @cached_property
    def codec(self) -> Codec:
        from flic_kernels import native

        from ..codec.opening import open_codec

        native.set_threads(1)
        task = self.task
        return open_codec(task.model, task.dtype, task.device, self._models)

    def __call__(self, job: Job) -> Result:
        """Whatever is wrong with a picture is recorded. What ends the work: a model that cannot be
        loaded, and an OutputError, but where a file of somebody else stands in its place."""
        task, data = self.task, None if self.task.force else self._up_to_date(job)
        encoded = data is None
        codec = self.codec if encoded else None
        try:
            if codec is not None:
                if not task.overwrite:
                    output.check_ours(Path(job.target), output.wrote_flic)
                from ..pictures import images

                picture = images.read(job.source, strip=task.strip)
                data = codec.encode_picture(picture, rate=task.rate, tile=task.tile)
                write_file(Path(job.target), data)
            file = container.unpack(data)
        except OutputError as error:
            if not isinstance(error, ForeignFileError):
                raise
            return Result(Record(job.name, "failed", str(error)), False)
        except Exception as error:
            return Result(Record(job.name, "failed", _line(job, error)), False)
        return Result(self._record(job, data, file), encoded)

    def _up_to_date(self, job: Job) -> bytes | None:
        """The bytes of a file that need not be made again."""
        try:
            if os.stat(job.target).st_mtime_ns < os.stat(job.source).st_mtime_ns:
                return None
            data = Path(job.target).read_bytes()
            file = container.unpack(data)
        except (OSError, FlicError):
            return None
        task, pixels = self.task, file.width * file.height
        done = (
            file.fingerprint.hex() == self._fingerprint()
            and file.tile == tile_grid.choose((file.height, file.width), task.tile)
            and task.rate.is_of(file.step, len(data), pixels, self._metadata)
            and not (task.strip and (file.icc is not None or file.exif is not None))
        )
        return data if done else None

    def _fingerprint(self) -> str:
        """The model's, by the header of its file, or where that has none by its weights."""
        return self._stated or self.codec.fingerprint.hex()

    def _record(self, job: Job, data: bytes, file: Container) -> Record:
        return Record(
            path=job.name,
            status="ok",
            file=Path(job.target).relative_to(self.task.out).as_posix(),
            width=file.width,
            height=file.height,
            bytes=len(data),
            bpp=8 * len(data) / (file.width * file.height),
            fingerprint=file.fingerprint.hex(),
            step=file.step,
            sha256=hashlib.sha256(data).hexdigest(),
        )


def _line(job: Job, error: Exception) -> str:
    text = " ".join(str(error).split()).removeprefix(f"{job.source}: ")
    if isinstance(error, FlicError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
