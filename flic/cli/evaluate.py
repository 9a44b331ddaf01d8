"""`flic eval`: rate, quality, time and memory of models on a set of pictures."""

import itertools
import os
import shlex
import sys
from json import loads
from pathlib import Path
from typing import Annotated

import typer

from ..codec.rate import Rate, iterations_of
from ..errors import FlicError, OptionError, OutputError
from ..model import library
from . import common

_SECTIONS = {"settings", "conventions", "machine", "pictures", "curves", "bd_rate"}
"""What flic's results.json has, by `report.document`."""
_FILES = ("results.json", "results.csv", "results.md", "rd.png", "rd.svg")


def evaluate(
    data: Annotated[
        Path, typer.Option("--data", metavar="DIR", help="Folder of pictures, or one picture.")
    ],
    model: Annotated[
        list[str] | None,
        typer.Option(
            "-m",
            "--model",
            "--checkpoint",
            metavar="[CURVE=]MODEL",
            help="A name, fingerprint, checkpoint, or folder of checkpoints; may be repeated. "
            "CURVE names the line that the point is on. [default: every built-in model]",
        ),
    ] = None,
    steps: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="Quantisation steps, 1/64 (0.015625) to 64, separated by commas: each model is a "
            "curve of its own, with a point at each.",
        ),
    ] = None,
    qualities: Annotated[
        str | None,
        typer.Option(
            metavar="LIST", help="The same by qualities, 0 to 100, for models that have them."
        ),
    ] = None,
    single: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[CURVE=]MODEL",
            help="As -m, for models that stay one point each, at step 1, beside those with --steps "
            "or --qualities; may be repeated.",
        ),
    ] = None,
    real: Annotated[
        bool,
        typer.Option("--real/--estimate", help="Whole files, or bits estimated without coding."),
    ] = True,
    efforts: Annotated[
        str,
        typer.Option(
            "--effort",
            metavar="LIST",
            help="Of flic encode, 0 to 9; of several, as 0,3, each makes curves of its own.",
        ),
    ] = "0",
    anchors: Annotated[
        str, typer.Option(metavar="LIST", help="Of jpeg,webp,avif: what to compare with.")
    ] = "",
    pad: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Zeros all around to multiples of N; 256 is the authors' way. [default: flic's]",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write results.json, .csv, .md, rd.png and rd.svg here."),
    ] = None,
    bd_method: Annotated[
        str, typer.Option(metavar="METHOD", help="Of BD-rate: pchip, akima or cubic.")
    ] = "pchip",
    chart_size: Annotated[
        tuple[float, float], typer.Option(metavar="W H", help="Of the chart, in inches.")
    ] = (10.0, 4.8),
    dpi: Annotated[float, typer.Option(min=10, max=1200, help="Pixels an inch of rd.png.")] = 150,
    published: Annotated[
        bool, typer.Option(help="Draw the points that FLIC's authors report beside.")
    ] = True,
    models: common.Models = None,
    cuda: common.Cuda = False,
    device: common.Device = "cpu",
    dtype: common.Dtype = "float32",
    threads: common.Threads = None,
    overwrite: common.Overwrite = False,
    json: common.Json = False,
) -> None:
    """Measure models on pictures: bits, PSNR, MS-SSIM, time, memory, BD-rate against anchors.

    Each picture is coded and decoded in a process of its own that does nothing else. What the
    numbers mean stands below them, and in docs/evaluation.md.

    Results of an earlier evaluation in DIR are replaced: files that stand under these names beside
    flic's own results.json. Others are replaced with --overwrite only.
    """
    if min(chart_size) < 2 or max(chart_size) > 60:
        raise typer.BadParameter("--chart-size must lie between 2 and 60 inches")
    replace = common.Replace(True, None if overwrite else _wrote)
    if out is not None:
        _check_folder(out, replace)
    points = _rates(steps, qualities)
    tried = _efforts(efforts)
    if any(tried) and not real:
        raise OptionError("--effort is of whole files: not with --estimate")
    if single and not points:
        raise OptionError("--single is for use beside --steps or --qualities; without, it is -m")
    from ..evaluation import bd, coders

    if bd_method not in bd.METHODS:
        raise FlicError(f"no BD-rate method {bd_method!r} (there are {', '.join(bd.METHODS)})")
    names = anchors.lower().replace(",", " ").split()
    for name in names:
        coders.anchor(name)
    device = common.device(device, cuda)
    library.check_device(device)
    common.set_threads(threads)
    # torch, pandas and matplotlib come with these: after what can fail at once
    from ..evaluation import chart, report, run, select

    pictures = select.pictures(data)
    chosen = select.models(model or [], models, points, single or [])
    if out is not None and out.exists():
        curves = {each.curve for each in chosen} | {coders.anchor(name).name for name in names}
        for curve in sorted(curves):
            replace.check(out / report.compressai_name(curve))
    settings = run.Settings(real, pad, device, threads, bd_method, dtype, tried)
    with _progress() as bar:
        task = bar.add_task("", total=run.steps(pictures, chosen, names, settings))
        done = itertools.count()
        evaluation = run.evaluate(
            pictures,
            chosen,
            names,
            settings,
            lambda name: bar.update(task, description=name, completed=next(done)),
        )
    command = shlex.join(["flic", *sys.argv[1:]])
    if out is not None:
        files = _files(evaluation, command)
        drawn = chart.draw(evaluation, chart_size, dpi, with_published=published)
        files |= {f"rd.{suffix}": data for suffix, data in drawn.items()}
        _write(out, files, replace)
    if json:
        common.print_json(report.document(evaluation, command))
    else:
        typer.echo(report.tables(evaluation))
        if out is not None:
            typer.echo(f"written to {out}")


def _efforts(text: str) -> tuple[int, ...]:
    """What --effort lists."""
    try:
        efforts = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise OptionError(f"--effort: want numbers separated by commas, not {text!r}") from None
    for effort in efforts:
        iterations_of(effort)
    if len(set(efforts)) < len(efforts):
        raise OptionError(f"--effort {text}: the same one twice")
    return efforts


def _rates(steps: str | None, qualities: str | None) -> list[Rate]:
    """What --steps or --qualities lists; nothing where there is neither."""
    if steps is not None and qualities is not None:
        raise OptionError("--steps and --qualities both say where to measure: give one of them")
    option, name = ("--steps", "step") if qualities is None else ("--qualities", "quality")
    text = steps if qualities is None else qualities
    if text is None:
        return []
    try:
        numbers = [float(number) for number in text.split(",")]
    except ValueError:
        raise OptionError(f"{option}: want numbers separated by commas, not {text!r}") from None
    found = [Rate(**{name: number}) for number in numbers]
    if len(set(found)) < len(found):
        raise OptionError(f"{option} {text}: the same {name} twice")
    return found


def _check_folder(out: Path, replace: common.Replace) -> None:
    """Raise OutputError early, before costly work, where `out` cannot be made or written into."""
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out}: is not a folder")
    for name in _FILES:
        if out.exists():
            replace.check(out / name)
    there = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise OutputError(f"{out}: cannot write into {there}")


def _progress():
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    console = Console(stderr=True)
    name = TextColumn("{task.description}", markup=False)
    columns = (BarColumn(), MofNCompleteColumn(), Remaining(), name)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _files(evaluation, command: str) -> dict[str, bytes]:
    """The results as text, by file name."""
    from ..evaluation import report

    texts = {
        "results.json": report.to_json(evaluation, command),
        "results.csv": report.to_csv(evaluation),
        "results.md": report.to_markdown(evaluation, command),
    }
    for curve in evaluation.curves:
        texts[report.compressai_name(curve.name)] = report.to_compressai(curve)
    return {name: text.encode() for name, text in texts.items()}


def _curves(document: bytes) -> list[str]:
    """The curves' names in a results.json; ValueError where it is something else."""
    found = loads(document)
    if not (isinstance(found, dict) and found.keys() >= _SECTIONS):
        raise ValueError("not flic's results.json")
    return [curve["name"] for curve in found["curves"]]


def _wrote(path: Path) -> bool:
    """Whether `flic eval` wrote a file: its own results.json lies there, and names its curve."""
    try:
        curves = _curves((path.parent / "results.json").read_bytes())
    except (OSError, ValueError):
        return False
    if path.name in _FILES:
        return True
    from ..evaluation import report

    return path.name in map(report.compressai_name, curves)


def _write(out: Path, files: dict[str, bytes], replace: common.Replace) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out}: {error.strerror or error}") from error
    for name, data in files.items():
        replace.write(out / name, data)
