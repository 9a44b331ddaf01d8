"""`flic encode` and `flic decode`: one file, stdin and stdout, or a folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .. import grid, images, output
from ..errors import FlicError, OptionError, OutputError
from . import batch, common, plan, tasks

if TYPE_CHECKING:
    from ..codec import Progress

Format = Annotated[
    str, typer.Option("--format", metavar="SUFFIX", help="Picture format where OUT has no name.")
]
Strip = Annotated[bool, typer.Option("--strip", help="Drop ICC profile and EXIF.")]
Tile = Annotated[
    str,
    typer.Option(
        "--tile",
        metavar="auto|none|SIZE",
        help="Code in tiles of SIZE pixels, a multiple of 128, or whole [auto: whole up to 4 MP].",
    ),
]
Crop = Annotated[
    str | None,
    typer.Option("--crop", metavar="X,Y,W,H", help="Decode only this region, in pixels."),
]
Jobs = Annotated[
    int | None,
    typer.Option("--jobs", min=1, metavar="N", help="Folders: pictures at a time."),
]
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
    dtype: common.Dtype = "float32",
    threads: common.Threads = None,
    jobs: Jobs = None,
    tile: Tile = "auto",
    strip: Strip = False,
    overwrite: common.Overwrite = False,
    no_overwrite: common.NoOverwrite = False,
    force: Force = False,
    json: common.Json = False,
    quiet: Quiet = False,
) -> None:
    """Compress a picture (PNG, JPEG, WebP, TIFF), or every picture in a folder.

    A folder's pictures are written to the folder OUT under the same names: a.png becomes a.flic, or
    a.png.flic where a.jpg lies beside it; a name in use stays. What is up to date there is skipped,
    so an interrupted run goes on where it stopped.

    A file that is no .flic file is replaced with --overwrite only.

    Pictures of more than 4 megapixels are coded in tiles: memory is bounded, and `flic decode
    --crop` opens a region without the rest.
    """
    replace = common.Replace.of(overwrite, no_overwrite, output.wrote_flic)
    _check_arguments(source, target, json)
    side = int(tile) if tile.isdecimal() else tile
    grid.choose((1, 1), side)  # a wrong size is an error of the command, not of every picture
    task = tasks.Encode(model, models, device, dtype, threads, strip=strip, tile=side)

    def up_to_date(source: Path, target: Path) -> bool:
        try:
            return batch.is_newer(target, source) and task.is_done(target)
        except (FlicError, OSError):
            return False

    if source.is_dir():
        listed = plan.folder(source, target, images.SUFFIXES, ".flic")
        skip = batch.skip_rule(up_to_date, replace, force=force)
        task.cache.for_encoding()  # a wrong model, likewise
        batch.run(listed, task, skip, processes=jobs, replace=replace, json=json, quiet=quiet)
        return
    target = _target_for(source, target, ".flic")
    if target != common.STDIO:
        if target.suffix.lower() in images.SUFFIXES:
            raise OutputError(f"{target}: a compressed file must not be named like a picture")
        replace.check(target)
    _one(task, source, target, ".flic", replace=replace, json=json, quiet=quiet)


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
    dtype: common.Dtype = "float32",
    threads: common.Threads = None,
    jobs: Jobs = None,
    crop: Crop = None,
    format: Format = "png",
    overwrite: common.Overwrite = False,
    no_overwrite: common.NoOverwrite = False,
    force: Force = False,
    json: common.Json = False,
    quiet: Quiet = False,
) -> None:
    """Turn a .flic file, or every one in a folder, back into a picture.

    OUT's suffix chooses the format: .png, .jpg (quality 95), .webp (lossless), .tiff. The model is
    found by the file's fingerprint, among the built-in ones and those in the model folder.

    A picture that flic did not write, or that was changed since, is replaced with --overwrite only.
    """
    replace = common.Replace.of(overwrite, no_overwrite, output.wrote_picture)
    _check_arguments(source, target, json)
    if crop is not None and source.is_dir():
        raise typer.BadParameter("--crop is for one file")
    suffix = "." + format.lower().lstrip(".")
    images.save_options(suffix)
    task = tasks.Decode(model, models, device, dtype, threads, crop=_region(crop))
    if source.is_dir():
        listed = plan.folder(source, target, frozenset((".flic",)), suffix)

        def up_to_date(source: Path, target: Path) -> bool:
            return batch.is_newer(target, source) and output.wrote_picture(target)

        skip = batch.skip_rule(up_to_date, replace, force=force)
        batch.run(listed, task, skip, processes=jobs, replace=replace, json=json, quiet=quiet)
        return
    target = _target_for(source, target, suffix)
    if target != common.STDIO:
        images.save_options(target.suffix)
        replace.check(target)
    _one(task, source, target, suffix, replace=replace, json=json, quiet=quiet)


def _region(crop: str | None) -> tuple[int, int, int, int] | None:
    """The numbers of --crop."""
    if crop is None:
        return None
    try:
        x, y, width, height = map(int, crop.split(","))
    except ValueError:
        raise OptionError(f"--crop takes X,Y,WIDTH,HEIGHT in pixels, not {crop!r}") from None
    return x, y, width, height


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


def _one(
    task: tasks.Task,
    source: Path,
    target: Path,
    suffix: str,
    *,
    replace: common.Replace,
    json: bool,
    quiet: bool,
) -> None:
    """A single file, with a progress bar where it has tiles; `suffix` is stdout's."""
    kind = suffix if target == common.STDIO else target.suffix
    with _tile_bar(source, hidden=quiet) as progress:
        data, numbers = task(source, kind, progress)
    if target == common.STDIO:
        common.write_stdout(data)
    else:
        replace.write(target, data)
    result = {"input": str(source), "output": str(target), **numbers}
    if json:
        common.print_json(result)
    elif not quiet and target != common.STDIO:
        typer.echo(
            f"{target}: {result['width']}x{result['height']}, "
            f"{common.size_text(result['bytes'])}, {result['bpp']:.3f} bpp, "
            f"{result['seconds']:.2f} s"
        )


@contextmanager
def _tile_bar(source: Path, *, hidden: bool) -> Iterator["Progress"]:
    """A bar that shows from the first tile of several on; gives what the codec is to call."""
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    with common.progress_bar(*columns, TimeRemainingColumn(), hidden=hidden) as bar:
        shown = bar.add_task(source.name, visible=False)

        def progress(done: int, steps: int) -> None:
            bar.update(shown, completed=done, total=steps, visible=steps > 1)

        yield progress
