"""One picture to a .flic file's bytes and back: what `flic encode` and `flic decode` do with it.

A task is plain settings until it is first called, so that it can be handed to worker processes.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ..codec.rate import Rate
from ..coding.request import never
from ..errors import FlicError
from ..format import tile_grid
from ..format.container import Container
from ..model import library
from ..pictures import formats
from . import common

if TYPE_CHECKING:
    from ..codec.codec import Progress
    from ..pictures.images import Picture


@dataclass(frozen=True)
class Task:
    """model, models, device, dtype, threads: as the commands' options say."""

    model: str | None
    models: Path | None
    device: str
    dtype: str
    threads: int | None

    @cached_property
    def cache(self) -> common.CodecCache:
        return common.CodecCache(
            self.model, self.models, self.device, self.dtype, gradients=self.gradients
        )

    @property
    def gradients(self) -> bool:
        """Whether this takes torch, whatever the model."""
        return False

    @property
    def in_threads(self) -> bool:
        """Whether several files are best done by threads of one process: where nothing is slower
        by the interpreter's lock, since the C library codes."""
        return self.device == "cpu" and self.cache.is_native()

    def prepare(self) -> None:
        """Raise FlicError where nothing can be done with these settings, whatever the file."""
        library.check_device(self.device)

    def memory(self, source: Path) -> int:
        """Bytes that a worker takes for this file; may raise anything."""
        return 0

    def __getstate__(self) -> dict:
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True)
class Encode(Task):
    """rate: what the steps follow from. strip: drop metadata. tile, effort: as `flic.encode`'s."""

    rate: Rate
    strip: bool
    tile: int | str
    effort: int = 0

    def __call__(
        self,
        source: Path,
        suffix: str,
        progress: "Progress",
        enough: Callable[[], bool] = never,
    ) -> tuple[bytes, dict]:
        """A picture's .flic file, and the numbers to report. Raises FlicError.

        enough: as for `Codec.encode_at`.
        """
        picture = common.read_picture(source, strip=self.strip)
        common.set_threads(self.threads)
        codec = self.cache.for_encoding()
        start = time.perf_counter()
        data, step, reached = codec.encode_at(
            self.rate, picture, tile=self.tile, effort=self.effort, progress=progress,
            enough=enough,
        )  # fmt: skip
        seconds = time.perf_counter() - start
        numbers = _numbers(codec, len(data), picture, step, seconds, list(picture.dropped))
        if self.rate.target is not None:
            missed = self.rate.missed(reached)
            numbers |= {"target": self.rate.target, "reached": reached, "missed": missed}
        return data, numbers

    @property
    def gradients(self) -> bool:
        return self.effort > 0

    def prepare(self) -> None:
        self.cache.for_encoding()

    def memory(self, source: Path) -> int:
        from ..coding import limits

        size = formats.size_of(source)
        side = tile_grid.choose(size, self.tile)
        return limits.worker_bytes(
            self.cache.config_of(), size, side, process=not self.in_threads,
            gradients=self.gradients,
        )  # fmt: skip

    @cached_property
    def fingerprint(self) -> bytes:
        """Of the model."""
        return self.cache.fingerprint()

    @cached_property
    def metadata(self) -> dict[str, str]:
        """Of the model."""
        return self.cache.metadata()

    def is_done(self, target: Path) -> bool:
        """Whether `target` is the file that this task would write, up to metadata."""
        data = target.read_bytes()
        file = common.unpack(target, data)
        return (
            file.fingerprint == self.fingerprint
            and self.rate.is_of(file.step, len(data), file.width * file.height, self.metadata)
            and file.tile == tile_grid.choose((file.height, file.width), self.tile)
            and not (self.strip and (file.icc or file.exif))
        )


@dataclass(frozen=True)
class Decode(Task):
    """crop: a region, as for `flic.decode`. quality: as for `formats.save_options`."""

    crop: tuple[int, int, int, int] | None
    quality: int | None = None

    def __call__(self, source: Path, suffix: str, progress: "Progress") -> tuple[bytes, dict]:
        """A .flic file's picture in the format that `suffix` names, and the numbers to report.

        Raises FlicError.
        """
        data = common.read_input(source)
        file = common.unpack(source, data)
        try:
            if self.crop is not None:
                tile_grid.check_crop(self.crop, (file.height, file.width))
            if file.alpha is not None:
                formats.check_alpha(suffix)
            common.set_threads(self.threads)
            codec = self.cache.for_file(file)
            start = time.perf_counter()
            picture = codec.decode_picture(file, crop=self.crop, progress=progress)
            seconds = time.perf_counter() - start
            image = picture.to_pil()
            written = formats.to_bytes(image, suffix, self.quality)
        except FlicError as error:
            raise common.named(source, error) from error
        dropped = formats.not_written(image, suffix)
        numbers = _numbers(codec, len(data), file, file.step, seconds, dropped)
        return written, numbers if self.crop is None else _of_region(numbers, file, self.crop)

    def memory(self, source: Path) -> int:
        from ..coding import limits

        file = common.unpack(source, common.read_input(source))
        config = self.cache.config_of(file.fingerprint)
        size = file.height, file.width
        return limits.worker_bytes(config, size, file.tile, process=not self.in_threads)


def _of_region(numbers: dict, file: Container, crop: tuple[int, int, int, int]) -> dict:
    """The numbers of a region: its size, and the bytes of the streams that were decoded for it.

    Those of the whole file are its "file".
    """
    whole = ("width", "height", "bytes", "bpp")
    region = tile_grid.check_crop(crop, (file.height, file.width))
    size = sum(len(file.streams[i]) for i in tile_grid.streams_for(file.grid, region))
    return numbers | {
        "width": region.width,
        "height": region.height,
        "bytes": size,
        "bpp": 8 * size / (region.width * region.height),
        "region": list(crop),
        "file": {name: numbers[name] for name in whole},
    }


def _numbers(
    codec,
    size: int,
    picture: "Picture | Container",
    step: float,
    seconds: float,
    dropped: list[str],
) -> dict:
    return {
        "model": codec.fingerprint.hex(),
        "width": picture.width,
        "height": picture.height,
        "bytes": size,
        "bpp": 8 * size / (picture.width * picture.height),
        "step": step,
        "seconds": seconds,
        "dropped": dropped,
    }
