"""`flic encode` and `flic decode`: one file, stdin and stdout, or a folder."""

import time
from pathlib import Path
from typing import Annotated

import typer

from .. import container, images, output
from ..errors import FlicError, OutputError
from . import batch, common

Format = Annotated[
    str, typer.Option("--format", metavar="SUFFIX", help="Picture format where OUT has no name.")
]
Strip = Annotated[bool, typer.Option("--strip", help="Drop ICC profile and EXIF.")]
Force = Annotated[bool, typer.Option("--force", help="Folders: redo what is up to date.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print errors only.")]


def encode(
    source: Annotated[Path, typer.Argument(metavar="IN", help="Picture, folder, or - for stdin.")],
    target: Annotated[
        Path, typer.Argument(metavar="OUT", help=".flic file, folder, or - for stdout.")
    ],
    model: common.Model = None,
    models: common.Models = None,
    device: common.Device = "cpu",
    threads: common.Threads = None,
    strip: Strip = False,
    no_overwrite: common.NoOverwrite = False,
    force: Force = False,
    json: common.Json = False,
    quiet: Quiet = False,
) -> None:
    """Compress a picture (PNG, JPEG, WebP, TIFF), or every picture in a folder.

    A folder's pictures are written to the folder OUT under the same names. What is up to date there
    is skipped, so an interrupted run goes on where it stopped.
    """
    _check_arguments(source, target, json)
    cache = common.CodecCache(model, models, device)

    def work(source: Path, target: Path) -> dict:
        picture = common.read_picture(source, strip=strip)
        common.set_threads(threads)
        codec = cache.for_encoding()
        start = time.perf_counter()
        data = codec.encode_picture(picture)
        seconds = time.perf_counter() - start
        _write(target, data, no_overwrite)
        return {
            "input": str(source),
            "output": str(target),
            "model": codec.fingerprint.hex(),
            **_numbers(len(data), picture.width, picture.height, seconds),
        }

    def up_to_date(source: Path, target: Path) -> bool:
        if not batch.is_newer(target, source):
            return False
        try:
            file = container.unpack(target.read_bytes())
        except (FlicError, OSError):
            return False
        same_model = file.fingerprint == cache.for_encoding().fingerprint
        return same_model and not (strip and (file.icc or file.exif))

    if source.is_dir():
        jobs = batch.plan(source, target, images.SUFFIXES, ".flic")
        skip = batch.skip_rule(up_to_date, force=force, no_overwrite=no_overwrite)
        cache.for_encoding()  # a wrong model is an error of the command, not of every picture
        batch.run(jobs, work, skip, json=json, quiet=quiet)
        return
    target = _target_for(source, target, ".flic")
    if target != common.STDIO:
        if target.suffix.lower() in images.SUFFIXES:
            raise OutputError(f"{target}: a compressed file must not be named like a picture")
        output.check_target(target, overwrite=not no_overwrite)
    _report(work(source, target), json=json, quiet=quiet)


def decode(
    source: Annotated[
        Path, typer.Argument(metavar="IN", help=".flic file, folder, or - for stdin.")
    ],
    target: Annotated[
        Path,
        typer.Argument(metavar="OUT", help="Picture to write, folder, or - for stdout."),
    ],
    model: common.Model = None,
    models: common.Models = None,
    device: common.Device = "cpu",
    threads: common.Threads = None,
    format: Format = "png",
    no_overwrite: common.NoOverwrite = False,
    force: Force = False,
    json: common.Json = False,
    quiet: Quiet = False,
) -> None:
    """Turn a .flic file, or every one in a folder, back into a picture.

    OUT's suffix chooses the format: .png, .jpg (quality 95), .webp (lossless), .tiff. The model is
    found by the file's fingerprint, among the built-in ones and those in the model folder.
    """
    _check_arguments(source, target, json)
    suffix = "." + format.lower().lstrip(".")
    images.save_options(suffix)
    cache = common.CodecCache(model, models, device)

    def work(source: Path, target: Path) -> dict:
        data = common.read_input(source)
        file = common.unpack(source, data)
        common.set_threads(threads)
        try:
            codec = cache.for_file(file)
            start = time.perf_counter()
            picture = codec.decode_picture(file)
            seconds = time.perf_counter() - start
            kind = suffix if target == common.STDIO else target.suffix
            _write(target, images.to_bytes(picture.to_pil(), kind), no_overwrite)
        except FlicError as error:
            raise common.named(source, error) from error
        return {
            "input": str(source),
            "output": str(target),
            "model": codec.fingerprint.hex(),
            **_numbers(len(data), picture.width, picture.height, seconds),
        }

    if source.is_dir():
        jobs = batch.plan(source, target, frozenset((".flic",)), suffix)
        skip = batch.skip_rule(
            lambda source, target: batch.is_newer(target, source),
            force=force,
            no_overwrite=no_overwrite,
        )
        batch.run(jobs, work, skip, json=json, quiet=quiet)
        return
    target = _target_for(source, target, suffix)
    if target != common.STDIO:
        images.save_options(target.suffix)
        output.check_target(target, overwrite=not no_overwrite)
    _report(work(source, target), json=json, quiet=quiet)


def _check_arguments(source: Path, target: Path, json: bool) -> None:
    if target == common.STDIO and json:
        raise typer.BadParameter("--json and OUT both claim stdout")
    if target == common.STDIO and source.is_dir():
        raise typer.BadParameter("a folder needs a folder for OUT")


def _target_for(source: Path, target: Path, suffix: str) -> Path:
    """OUT, or the file in it that takes the input's name where OUT is a folder."""
    if target == common.STDIO or not target.is_dir():
        return target
    return target / (("stdin" if source == common.STDIO else source.stem) + suffix)


def _write(target: Path, data: bytes, no_overwrite: bool) -> None:
    if target == common.STDIO:
        common.write_stdout(data)
    else:
        output.write_atomic(target, data, overwrite=not no_overwrite)


def _numbers(size: int, width: int, height: int, seconds: float) -> dict:
    return {
        "width": width,
        "height": height,
        "bytes": size,
        "bpp": 8 * size / (width * height),
        "seconds": seconds,
    }


def _report(result: dict, *, json: bool, quiet: bool) -> None:
    if json:
        common.print_json(result)
    elif not quiet and result["output"] != "-":
        typer.echo(
            f"{result['output']}: {result['width']}x{result['height']}, "
            f"{common.size_text(result['bytes'])}, {result['bpp']:.3f} bpp, "
            f"{result['seconds']:.2f} s"
        )
