"""Folders: which files become which, what is up to date, and what went wrong."""

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import typer

from ..errors import FlicError, OutputError
from . import common


class Job(NamedTuple):
    source: Path
    target: Path


def plan(folder: Path, out: Path, suffixes: frozenset[str], suffix: str) -> list[Job]:
    """One job for each file in `folder` (and below) with one of `suffixes`; hidden ones left out.

    The target has the source's place and name, with `suffix` for its own; sources whose names
    differ only there keep theirs too (`a.png.flic`, `a.jpg.flic`), so that none replaces another.
    """
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out}: is not a folder, and {folder} is")
    sources = []
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        sources += [
            Path(root, name)
            for name in sorted(names)
            if Path(name).suffix.lower() in suffixes and not name.startswith(".")
        ]
    if not sources:
        raise FlicError(f"{folder}: no {' '.join(sorted(suffixes))} files in this folder")
    return named_jobs([(source, out / source.relative_to(folder)) for source in sources], suffix)


def named_jobs(pairs: list[tuple[Path, Path]], suffix: str) -> list[Job]:
    """Sources and the places of their results, the latter named as `plan` says."""
    wanted = [place.with_suffix(suffix) for _, place in pairs]
    # case does not tell names apart on every file system
    taken = Counter(str(path).casefold() for path in wanted)
    jobs = []
    for (source, _), path in zip(pairs, wanted, strict=True):
        if taken[str(path).casefold()] > 1:
            path = path.with_name(source.name + suffix)
        jobs.append(Job(source, path))
    return jobs


def is_newer(target: Path, source: Path) -> bool:
    """Whether `target` is a file that was written after `source` last changed."""
    try:
        return target.is_file() and target.stat().st_mtime_ns >= source.stat().st_mtime_ns
    except OSError:
        return False


def skip_rule(
    up_to_date: Callable[[Path, Path], bool], *, force: bool, no_overwrite: bool
) -> Callable[[Path, Path], bool]:
    """Which jobs need no work: existing targets with --no-overwrite, else those up to date."""
    if no_overwrite:
        return lambda source, target: os.path.lexists(target)
    if force:
        return lambda source, target: False
    return up_to_date


def run(
    jobs: list[Job],
    work: Callable[[Path, Path], dict],
    skip: Callable[[Path, Path], bool],
    *,
    json: bool,
    quiet: bool,
) -> None:
    """Do the jobs with a progress bar; a file that fails is listed at the end, the rest go on.

    Raises typer.Exit(1) where any failed.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    done, failed, skipped = [], [], 0
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Remaining())
    console = Console(stderr=True)
    hidden = quiet or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as progress:
        task = progress.add_task("", total=len(jobs))
        for source, target in jobs:
            progress.update(task, description=source.name)
            try:
                if skip(source, target):
                    skipped += 1
                else:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    done.append(work(source, target))
            except Exception as error:  # whatever is wrong with one file, the others go on
                failed.append({"input": str(source), "error": _line(source, error)})
            progress.advance(task)
    if json:
        common.print_json({"done": done, "skipped": skipped, "failed": failed})
    elif not quiet:
        size = sum(result["bytes"] for result in done)
        pixels = sum(result["width"] * result["height"] for result in done)
        bpp = f", {8 * size / pixels:.3f} bpp" if pixels else ""
        typer.echo(
            f"{len(done)} done ({common.size_text(size)}{bpp}), {skipped} skipped, "
            f"{len(failed)} failed"
        )
    if failed:
        for failure in failed:
            typer.echo(f"flic: {failure['error']}", err=True)
        raise typer.Exit(1)


def _line(source: Path, error: Exception) -> str:
    text = " ".join(str(error).split())
    if not isinstance(error, FlicError):
        text = f"{type(error).__name__}: {text}"
    return text if text.startswith(str(source)) else f"{source}: {text}"
