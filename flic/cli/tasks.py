"""One picture to a .flic file's bytes and back: what `flic encode` and `flic decode` do with it.

A task is plain settings until it is first called, so that it can be handed to worker processes.
"""

import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from .. import formats, grid, images
from ..container import Container
from ..errors import FlicError
from . import common

if TYPE_CHECKING:
    from ..codec import Progress


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
        return common.CodecCache(self.model, self.models, self.device, self.dtype)

    def __getstate__(self) -> dict:
        return {name: value for name, value in vars(self).items() if name != "cache"}


@dataclass(frozen=True)
class Encode(Task):
    """strip: drop metadata. tile: as for `flic.encode`."""

    strip: bool
    tile: int | str

    def __call__(self, source: Path, suffix: str, progress: "Progress") -> tuple[bytes, dict]:
        """A picture's .flic file, and the numbers to report. Raises FlicError."""
        picture = common.read_picture(source, strip=self.strip)
        common.set_threads(self.threads)
        codec = self.cache.for_encoding()
        start = time.perf_counter()
        data = codec.encode_picture(picture, tile=self.tile, progress=progress)
        seconds = time.perf_counter() - start
        return data, _numbers(codec, len(data), picture, seconds, list(picture.dropped))

    def is_done(self, target: Path) -> bool:
        """Whether `target` is the file that this task would write, up to metadata."""
        file = common.unpack(target, target.read_bytes())
        return (
            file.fingerprint == self.cache.for_encoding().fingerprint
            and file.tile == grid.choose((file.height, file.width), self.tile)
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
        common.set_threads(self.threads)
        try:
            codec = self.cache.for_file(file)
            start = time.perf_counter()
            picture = codec.decode_picture(file, crop=self.crop, progress=progress)
            seconds = time.perf_counter() - start
            image = picture.to_pil()
            written = formats.to_bytes(image, suffix, self.quality)
        except FlicError as error:
            raise common.named(source, error) from error
        dropped = formats.not_written(image, suffix)
        return written, _numbers(codec, len(data), file, seconds, dropped)


def _numbers(
    codec, size: int, picture: images.Picture | Container, seconds: float, dropped: list[str]
) -> dict:
    return {
        "model": codec.fingerprint.hex(),
        "width": picture.width,
        "height": picture.height,
        "bytes": size,
        "bpp": 8 * size / (picture.width * picture.height),
        "seconds": seconds,
        "dropped": dropped,
    }
