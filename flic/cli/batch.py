"""Folders: what is up to date, what is done, and what went wrong."""

import contextlib
import dataclasses
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import typer

from .. import output
from ..errors import DiskFullError, FlicError
from . import common, workers
from .tasks import Task
from .workers import Job


def is_newer(target: Path, source: Path) -> bool:
    """Whether `target` is a file that was written after `source` last changed."""
    try:
        return target.is_file() and target.stat().st_mtime_ns >= source.stat().st_mtime_ns
    except OSError:
        return False


def skip_rule(
    up_to_date: Callable[[Path, Path], bool], replace: common.Replace, *, force: bool
) -> Callable[[Path, Path], bool]:
    """Which jobs need no work: existing targets with --no-overwrite, else those up to date.

    It raises OutputError where the target must not be replaced, before any work.
    """
    if not replace.overwrite:
        return lambda source, target: os.path.lexists(target)

    def skip(source: Path, target: Path) -> bool:
        output.check_ours(target, replace.ours)
        return not force and up_to_date(source, target)

    return skip


def run(
    jobs: list[Job],
    task: Task,
    skip: Callable[[Path, Path], bool],
    *,
    at_once: int | None,
    overwrite: bool,
    json: bool,
    quiet: bool,
    ours: output.Ours = None,
    left_out: Sequence[Path] = (),
) -> None:
    """Do the jobs with a progress bar; a file that fails is listed at the end, the rest go on.

    at_once: how many workers share the jobs; None: as many as are fast. overwrite, ours: as for
    `output.write_atomic`. left_out: files that are no jobs, to be counted.
    Raises typer.Exit(1) where any failed, and at once DiskFullError: the rest would fail likewise.
    """
    done, failed, todo = {}, {}, []
    for job in jobs:
        try:
            if not skip(*job):
                todo.append(job)
        except Exception as error:  # whatever is wrong with one file, the others go on
            failed[job] = error
    skipped = len(jobs) - len(todo) - len(failed)
    if todo:
        task.prepare()
        output.check_folder(Path(os.path.commonpath([job.target.parent for job in todo])))
    at_once, threads = workers.share(
        len(todo), at_once, task.threads, task.device, lambda: _most_memory(task, todo),
        task.in_threads,
    )  # fmt: skip
    if at_once > 1:
        task = dataclasses.replace(task, threads=threads)
    outcomes = workers.outcomes(task, todo, at_once)
    # closed when anything ends the loop, so that no worker goes on
    with contextlib.closing(outcomes), _progress(len(todo), hidden=quiet) as advance:
        for job, outcome in outcomes:
            try:
                if isinstance(outcome, Exception):
                    raise outcome
                data, done[job] = outcome
                output.make_folder(job.target.parent)
                output.write_atomic(job.target, data, overwrite=overwrite, ours=ours)
            except DiskFullError:
                raise
            except Exception as error:
                done.pop(job, None)
                failed[job] = error
            advance(done.get(job))
    results = [
        {"input": str(job.source), "output": str(job.target), **done[job]}
        for job in jobs
        if job in done
    ]
    errors = {job: _line(job.source, failed[job]) for job in jobs if job in failed}
    if json:
        listed = [{"input": str(job.source), "error": line} for job, line in errors.items()]
        rest = [str(path) for path in left_out]
        common.print_json({"done": results, "skipped": skipped, "failed": listed, "left_out": rest})
    elif not quiet:
        size = sum(result["bytes"] for result in results)
        pixels = sum(result["width"] * result["height"] for result in results)
        bpp = f", {8 * size / pixels:.3f} bpp" if pixels else ""
        rest = f", {len(left_out)} left out" if left_out else ""
        typer.echo(
            f"{len(results)} done ({common.size_text(size)}{bpp}), {skipped} skipped, "
            f"{len(errors)} failed{rest}"
        )
        dropped = Counter(what for result in results for what in result.get("dropped", ()))
        common.say_dropped([f"{what} ({count}x)" for what, count in dropped.items()])
        if missed := sum(bool(result.get("missed")) for result in results):
            typer.echo(f"flic: {missed} of the files miss the target (--json says which)", err=True)
    for line in errors.values():
        typer.echo(f"flic: {line}", err=True)
    if errors:
        raise typer.Exit(1)


def _most_memory(task: Task, jobs: list[Job]) -> int:
    """Bytes that the job that takes most of it takes; 0 where none can be read."""
    most = 0
    for job in jobs:
        with contextlib.suppress(Exception):  # what is wrong with a file shows when it is done
            most = max(most, task.memory(job.source))
    return most


@contextlib.contextmanager
def _progress(count: int, *, hidden: bool) -> Iterator[Callable[[dict | None], None]]:
    """A bar in pictures, with megapixels a second; gives what is to be called after each picture,
    with its numbers, or None where it failed."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with common.progress_bar(*columns, TimeRemainingColumn(), hidden=hidden) as bar:
        shown, start, pixels = bar.add_task("", total=count), time.perf_counter(), 0

        def advance(numbers: dict | None) -> None:
            nonlocal pixels
            if numbers is not None:
                pixels += numbers["width"] * numbers["height"]
            rate = pixels / 1e6 / (time.perf_counter() - start)
            bar.update(shown, advance=1, description=f"{rate:.2f} megapixels/s")

        yield advance


def _line(source: Path, error: Exception) -> str:
    text = " ".join(str(error).split())
    if not isinstance(error, FlicError):
        text = f"{type(error).__name__}: {text}"
    return text if text.startswith(str(source)) else f"{source}: {text}"
