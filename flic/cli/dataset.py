"""`flic encode-dataset`: a data set's pictures, by one process, by torchrun's or by Ray's."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from .. import output
from ..codec.rate import Rate
from ..dataset import manifest, work
from ..dataset.manifest import Result
from ..dataset.work import Job, Task
from ..errors import FlicError, OutputError
from ..model import library
from ..pictures import formats
from . import common, plan, rates
from .code import Force, Quiet, Strip, Tile, tile_side

_SHOWN = 20  # bad pictures that are named on stderr


def encode_dataset(
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="Folder, or text file with one path a line.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for files and manifest.")],
    quality: rates.Quality = None,
    step: rates.Step = None,
    target_bpp: rates.TargetBpp = None,
    target_size: rates.TargetSize = None,
    target_psnr: rates.TargetPsnr = None,
    model: common.Model = None,
    models: common.Models = None,
    device: common.Device = "cpu",
    dtype: common.Dtype = "float32",
    tile: Tile = "auto",
    strip: Strip = False,
    force: Force = False,
    overwrite: common.Overwrite = False,
    ray: Annotated[
        bool, typer.Option("--ray", help="Share the work among Ray's workers (Ray Data).")
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="With --ray: workers [default: one a CPU]."),
    ] = None,
    ray_address: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="With --ray: a cluster; default: one made here."),
    ] = None,
    json: common.Json = False,
    quiet: Quiet = False,
) -> None:
    """Compress a data set's pictures with many workers, and write a manifest.

    Workers have one thread each. `torchrun --no-python --nproc-per-node N flic encode-dataset IN
    OUT` shares the work among N processes, on several machines too where they see the same folders;
    --ray shares it among Ray's. Without either there is one.

    What is up to date in OUT is skipped, so a run that was stopped goes on where it was. Bad
    pictures are listed and skipped, and the exit code is 1 where there are any. The manifest,
    OUT/manifest.jsonl, has a line for each picture and is written at the end. Results are named as
    `flic encode` names a folder's, and a file that flic did not write counts as a bad picture.
    """
    if not ray and (workers is not None or ray_address is not None):
        raise typer.BadParameter("--workers and --ray-address go with --ray")
    start = time.perf_counter()
    rate = Rate(quality, step, target_bpp, target_size, target_psnr)
    side = tile_side(tile)

    def planned() -> tuple[list[Job], list[Path], Task]:
        if not overwrite:
            output.check_ours(out / manifest.NAME, manifest.is_one)
        task = Task(
            str(out.absolute()), *_model(model, models), device, dtype, side, strip, force,
            overwrite, rate,
        )  # fmt: skip
        # a quality that the model lacks is an error of the command, too
        rate.fixed(library.metadata(library.locate(task.model, models)))
        library.check_device(device)
        return *_jobs(source, out), task

    if ray:
        from ..dataset import ray_data

        jobs, left_out, task = planned()
        found = ray_data.run(jobs, task, workers=workers, address=ray_address)
        results = _watched(found, len(jobs), shown=not quiet)
    else:
        from ..dataset.processes import processes

        with processes() as us:
            jobs, left_out, task = us.from_first(planned)
            jobs = jobs[us.rank :: us.size]
            worker = work.Worker(replace(task, device=us.device(device)))
            shown = us.rank == 0 and not quiet
            results = us.gather(_watched(map(worker, jobs), len(jobs), shown=shown))
        if us.rank:
            return
    manifest.write(out / manifest.NAME, (result.record for result in results))
    seconds = time.perf_counter() - start
    _report(results, len(left_out), out / manifest.NAME, seconds, json=json, quiet=quiet)


def _jobs(source: Path, out: Path) -> tuple[list[Job], list[Path]]:
    """The jobs, and what is left out of the folder."""
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out}: is not a folder")
    source, out = source.absolute(), out.absolute()
    if source.is_dir():
        what = f"{formats.COMMON} or other pictures"
        jobs, left_out = plan.make([source], out, formats.is_picture, ".flic", what)
        folder = source
    else:
        left_out = []
        folder, jobs = source.parent, plan.named(work.listed(source, out), ".flic")
    return [Job(_name(path, folder), str(path), str(target)) for path, target in jobs], left_out


def _name(path: Path, folder: Path) -> str:
    return (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()


def _model(model: str | None, models: Path | None) -> tuple[str | None, str | None]:
    """Both as workers take them; a wrong model is an error of the command, not of every worker."""
    if library.locate(model, models) == Path(model or ""):
        model = str(Path(model).absolute())
    return model, None if models is None else str(models.absolute())


def _watched(results: Iterator[Result], total: int, *, shown: bool) -> list[Result]:
    """All results, with a progress bar on a terminal while they come."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns = (BarColumn(), MofNCompleteColumn(), Remaining(), TextColumn("{task.description}"))
    console = Console(stderr=True)
    found, failed = [], 0
    with Progress(
        *columns, console=console, transient=True, disable=not (shown and console.is_terminal)
    ) as progress:
        bar = progress.add_task("", total=total)
        for result in results:
            found.append(result)
            failed += result.record.status == "failed"
            progress.update(bar, advance=1, description=f"{failed} bad" if failed else "")
    return found


def _report(
    results: list[Result], left_out: int, path: Path, seconds: float, *, json: bool, quiet: bool
) -> None:
    """Say what came of it. Raises FlicError where all pictures are bad, Exit where some are."""
    facts = manifest.summary(results, seconds)
    bad = [result.record for result in results if result.record.status == "failed"]
    for record in sorted(bad, key=lambda record: record.path)[:_SHOWN]:
        typer.echo(f"flic: {record.path}: {record.error}", err=True)
    if len(bad) > _SHOWN:
        typer.echo(f"flic: {len(bad) - _SHOWN} more bad pictures are in the manifest", err=True)
    if json:
        common.print_json({**facts, "left_out": left_out, "manifest": str(path)})
    elif not quiet:
        bpp = "" if facts["bpp"] is None else f", {facts['bpp']:.3f} bpp"
        rest = f", {left_out} left out" if left_out else ""
        typer.echo(
            f"{facts['pictures']} pictures: {facts['encoded']} encoded, {facts['up_to_date']} up "
            f"to date, {facts['failed']} bad{rest}; {common.size_text(facts['bytes'])}{bpp}; "
            f"{facts['seconds']:.1f} s, {facts['megapixels_per_second']:.2f} megapixels/s; {path}"
        )
    if len(bad) == len(results):
        raise FlicError(f"no picture could be encoded: {path} says why")
    if bad:
        if quiet and not json:  # else their number stands in what was printed
            verb = "is" if len(bad) == 1 else "are"
            number = f"{len(bad)} of {len(results)} pictures {verb} bad"
            typer.echo(f"flic: {number}: {path} says why", err=True)
        raise typer.Exit(1)
