"""`flic encode` and `flic decode`: one file, stdin and stdout, several files, or folders."""

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .. import output
from ..codec.rate import Rate
from ..coding.request import never
from ..errors import FlicError, OptionError, OutputError
from ..format import tile_grid
from ..pictures import formats
from . import batch, common, interrupts, plan, rates, tasks

if TYPE_CHECKING:
    from ..codec.codec import Progress

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
    typer.Option(
        "--jobs",
        min=1,
        max=common.MAX_THREADS,
        metavar="N",
        help="Folders: pictures at a time; times --threads at most 256. [default: one a core "
        "where memory allows]",
    ),
]
Quality = Annotated[
    int | None,
    typer.Option(
        "--output-quality",
        min=1,
        max=100,
        metavar="N",
        help="Of .jpg, .webp and .avif, 1 to 100; else 95, lossless, 90.",
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Folders: redo what is up to date.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print errors only.")]


def encode(
    sources: Annotated[
        list[Path],
        typer.Argument(metavar="IN", help="Pictures, folders, or - for stdin."),
    ],
    target: Annotated[
        str, typer.Argument(metavar="OUT", help=".flic file, folder, or - for stdout.")
    ],
    quality: rates.Quality = None,
    step: rates.Step = None,
    target_bpp: rates.TargetBpp = None,
    target_size: rates.TargetSize = None,
    target_psnr: rates.TargetPsnr = None,
    effort: rates.Effort = 0,
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
    """Compress a picture, several, or every picture in a folder.

    Read are PNG, JPEG, WebP, TIFF, AVIF, BMP, GIF, JPEG 2000 and PPM, and HEIC where pillow-heif is
    installed. Several pictures need a folder for OUT; one that ends in / is made.

    A folder's pictures are written to the folder OUT under the same names: a.png becomes a.flic, or
    a.png.flic where a.jpg lies beside it; a name in use stays. What is up to date there is skipped,
    so an interrupted run goes on where it stopped. Links to folders are followed; files that are no
    pictures by suffix (or, without one, by content) and hidden ones are left out and counted.

    A file that is no .flic file is replaced with --overwrite only.

    Pictures of more than 4 megapixels are coded in tiles: memory is bounded, and `flic decode
    --crop` opens a region without the rest.

    An effort goes from 5 iterations (1) to 100 (9) for each picture or tile; the file is never
    the worse of the two, and decodes as any other. Of a single picture, Ctrl-C ends the iterations
    and keeps what they have reached.

    With a target the picture is analysed once and coded several times; a target that no step
    reaches is told on stderr, and the nearest file is kept. A folder's files at --target-psnr are
    always made again.
    """
    rate = Rate(quality, step, target_bpp, target_size, target_psnr)
    replace = common.Replace.of(overwrite, no_overwrite, output.wrote_flic)
    many = _takes_many(sources, target, json)
    _check_threads(jobs, threads)
    side = tile_side(tile)
    task = tasks.Encode(
        model, models, device, dtype, threads, rate=rate, strip=strip, tile=side, effort=effort
    )

    def up_to_date(source: Path, target: Path) -> bool:
        try:
            return batch.is_newer(target, source) and task.is_done(target)
        except (FlicError, OSError):
            return False

    if many:
        what = f"{formats.COMMON} or other pictures"
        planned = plan.make(sources, Path(target), formats.is_picture, ".flic", what)
        skip = batch.skip_rule(up_to_date, replace, force=force)
        rate.fixed(task.cache.metadata())  # a wrong model, likewise
        _many(planned, task, skip, jobs, replace, json=json, quiet=quiet)
        return
    path = _target_for(sources[0], target, ".flic")
    if path == common.STDIO:
        common.check_stdout()
    else:
        if path.suffix.lower() in formats.SUFFIXES:
            raise OutputError(f"{path}: a compressed file must not be named like a picture")
        _check(path, target, replace)
    keeping = interrupts.deferred("keeping what has been reached")
    with keeping if effort else nullcontext(never) as enough:
        encode_one = functools.partial(task, enough=enough)
        _one(encode_one, sources[0], path, ".flic", replace=replace, json=json, quiet=quiet)


def decode(
    sources: Annotated[
        list[Path],
        typer.Argument(metavar="IN", help=".flic files, folders, or - for stdin."),
    ],
    target: Annotated[
        str,
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
    output_quality: Quality = None,
    overwrite: common.Overwrite = False,
    no_overwrite: common.NoOverwrite = False,
    force: Force = False,
    json: common.Json = False,
    quiet: Quiet = False,
) -> None:
    """Turn a .flic file, several, or every one in a folder, back into pictures.

    OUT's suffix chooses the format: .png, .jpg (quality 95), .webp (lossless), .tiff, .avif
    (quality 90), .bmp; where OUT is a folder, --format does. One that ends in / is made. The model
    is found by the file's fingerprint, among the built-in ones and those in the model folder.

    With --crop, size and rate are the region's: its pixels, and the bytes of the streams that were
    decoded for it; those of the file stand beside them (--json: "file").

    A picture that flic did not write, or that was changed since, is replaced with --overwrite only.
    """
    replace = common.Replace.of(overwrite, no_overwrite, output.wrote_picture)
    many = _takes_many(sources, target, json)
    _check_threads(jobs, threads)
    if crop is not None and many:
        raise typer.BadParameter("--crop is for one file")
    suffix = "." + format.lower().lstrip(".")
    task = tasks.Decode(
        model, models, device, dtype, threads, crop=_region(crop), quality=output_quality
    )
    if many:
        formats.save_options(suffix, output_quality)
        planned = plan.make(sources, Path(target), plan.is_flic, suffix, ".flic files")

        def up_to_date(source: Path, target: Path) -> bool:
            return batch.is_newer(target, source) and output.wrote_picture(target)

        skip = batch.skip_rule(up_to_date, replace, force=force)
        _many(planned, task, skip, jobs, replace, json=json, quiet=quiet)
        return
    path = _target_for(sources[0], target, suffix)
    formats.save_options(suffix if path == common.STDIO else path.suffix, output_quality)
    if path == common.STDIO:
        common.check_stdout()
    else:
        _check(path, target, replace)
    _one(task, sources[0], path, suffix, replace=replace, json=json, quiet=quiet)


def tile_side(tile: str) -> int | str:
    """--tile as `flic.encode` takes it; a wrong size is an error of the command, not of every
    picture."""
    side = int(tile) if tile.isdecimal() else tile
    tile_grid.choose((1, 1), side)
    return side


def _region(crop: str | None) -> tuple[int, int, int, int] | None:
    """The numbers of --crop."""
    if crop is None:
        return None
    try:
        x, y, width, height = map(int, crop.split(","))
    except ValueError:
        raise OptionError(f"--crop takes X,Y,WIDTH,HEIGHT in pixels, not {crop!r}") from None
    return x, y, width, height


def _takes_many(sources: list[Path], target: str, json: bool) -> bool:
    """Whether there are many files to do, or one; wrong combinations are errors of usage."""
    stdout, many = target == str(common.STDIO), len(sources) > 1
    if stdout and json:
        raise typer.BadParameter("--json and OUT both claim stdout")
    if stdout and (many or sources[0].is_dir()):
        raise typer.BadParameter("a folder, or several files, need a folder for OUT")
    if many and common.STDIO in sources:
        raise typer.BadParameter("stdin is not for several inputs")
    if many and not _is_folder(target):
        raise typer.BadParameter(
            f"several inputs need a folder for OUT: make {target}, or write {target}/"
        )
    return many or sources[0].is_dir()


def _check_threads(jobs: int | None, threads: int | None) -> None:
    """Raise BadParameter for more threads in all than there may be."""
    if (jobs or 1) * (threads or 1) > common.MAX_THREADS:
        raise typer.BadParameter(
            f"--jobs {jobs} of --threads {threads} are more than {common.MAX_THREADS} threads"
        )


def _is_folder(target: str) -> bool:
    """Whether OUT is a folder, or is meant for one that is not there yet."""
    return target.endswith(("/", os.sep)) or Path(target).is_dir()


def _target_for(source: Path, target: str, suffix: str) -> Path:
    """OUT, or the file in it that takes the input's name where OUT is a folder."""
    path = Path(target)
    if not _is_folder(target):
        return path
    return path / (("stdin" if source == common.STDIO else source.stem) + suffix)


def _check(path: Path, target: str, replace: common.Replace) -> None:
    """Raise OutputError where OUT cannot be written; a folder that OUT is meant for is made."""
    if _is_folder(target):
        output.make_folder(path.parent)
    replace.check(path)


def _many(
    planned: plan.Plan,
    task: tasks.Task,
    skip: Callable[[Path, Path], bool],
    at_once: int | None,
    replace: common.Replace,
    *,
    json: bool,
    quiet: bool,
) -> None:
    """What `batch.run` does, with what is left out and what may be replaced."""
    batch.run(
        planned.jobs, task, skip, at_once=at_once, left_out=planned.left_out, json=json,
        quiet=quiet, **replace._asdict(),
    )  # fmt: skip


def _one(
    task: Callable[[Path, str, "Progress"], tuple[bytes, dict]],
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
        size, data_size = f"{result['width']}x{result['height']}", common.size_text(result["bytes"])
        if "file" in result:  # a region, of which the whole is said too
            whole = result["file"]
            size += f" of {whole['width']}x{whole['height']}"
            data_size += f" of {common.size_text(whole['bytes'])} decoded"
        step = f", step {result['step']:.4g}" if result["step"] != 1 else ""
        psnr = f", {result['reached']:.2f} dB" if result.get("target") == "psnr" else ""
        typer.echo(
            f"{target}: {size}, {data_size}, {result['bpp']:.3f} bpp{psnr}{step}, "
            f"{result['seconds']:.2f} s"
        )
    if not quiet and not json:
        common.say_dropped(result["dropped"])
        if result.get("missed"):
            typer.echo(f"flic: {source}: {result['missed']}", err=True)


@contextmanager
def _tile_bar(source: Path, *, hidden: bool) -> Iterator["Progress"]:
    """A bar that shows from the first part of more than a whole picture's two on; gives what the
    codec is to call."""
    with ExitStack() as stack:
        bar = None

        def progress(done: int, parts: int, cost: float | None = None) -> None:
            nonlocal bar
            if hidden or parts <= 2:
                return
            if bar is None:
                bar = stack.enter_context(_bar())
                bar.add_task(source.name)
            name = source.name if cost is None else f"{source.name}, cost {cost:.4f}"
            bar.update(bar.task_ids[0], completed=done, total=parts, description=name)

        yield progress


def _bar() -> "common.ProgressBar":
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn())
    return common.progress_bar(*columns, TimeRemainingColumn(), hidden=False)
