"""`flic info`, `verify`, `models` and `convert`. All but verify and convert do without torch."""

from pathlib import Path
from typing import Annotated

import typer

from ..codec.rate import parse_ends
from ..errors import FlicError, ModelNotFoundError, OutputError
from ..format import stream
from ..model import library
from . import common, plan

_CHECKPOINTS = (".safetensors", ".pth.tar", ".pth", ".pt")
Files = Annotated[
    list[Path],
    typer.Argument(metavar="FILE...", help=".flic files, folders of them, or - for stdin."),
]


def info(files: Files, models: common.Models = None, json: common.Json = False) -> None:
    """Say what is in .flic files, without decoding them. With --json: one line a file."""

    def report(path: Path, error: FlicError) -> None:
        if json:
            common.print_json({"file": str(path), "error": str(error)})

    _each(files, lambda path: _info(path, models, json), report)


def _info(path: Path, models: Path | None, json: bool) -> None:
    data = common.read_input(path)
    file = common.unpack(path, data)
    try:
        name = library.find(file.fingerprint.hex(), models).name
    except ModelNotFoundError:
        name = None
    try:
        coded = [stream.unpack(data) for data in file.streams]
    except FlicError as error:
        raise common.named(path, error) from error
    stream_bytes = sum(map(len, file.streams))
    facts = {
        "file": str(path),
        "format_version": file.version,
        "width": file.width,
        "height": file.height,
        "mode": ("L" if file.gray else "RGB") + ("" if file.alpha is None else "A"),
        "model": file.fingerprint.hex(),
        "model_name": name,
        "bytes": len(data),
        "bpp": 8 * len(data) / (file.width * file.height),
        "step": file.step,
        "tile": file.tile,
        "tiles": len(file.streams),
        "stream_bytes": stream_bytes,
        "arithmetic": stream.ARITHMETIC,
        "latents_crc32": [f"{part.latents_crc:08x}" for part in coded],
        "alpha_bytes": len(file.alpha or b""),
        "icc_bytes": len(file.icc or b""),
        "exif_bytes": len(file.exif or b""),
    }
    if json:
        common.print_json(facts)
        return
    name_of_streams = "stream" if file.tile is None else f"{len(coded)} tiles of {file.tile} pixels"
    parts = [f"{name_of_streams} {common.size_text(stream_bytes)}"]
    for label, section in (("alpha", file.alpha), ("ICC", file.icc), ("EXIF", file.exif)):
        if section is not None:
            parts.append(f"{label} {common.size_text(len(section))}")
    typer.echo(
        f"{path}: {file.width}x{file.height} {facts['mode']}, "
        f"{common.size_text(len(data))}, {facts['bpp']:.3f} bpp, step {file.step:.6g}\n"
        f"  holds   {', '.join(parts)}\n"
        f"  model   {facts['model']} ({name or 'not known here'})\n"
        f"  format  version {file.version}, checksum right"
    )


def verify(
    files: Files,
    model: common.Model = None,
    models: common.Models = None,
    device: common.Device = "cpu",
    threads: common.Threads = None,
    json: common.Json = False,
) -> None:
    """Check .flic files: both checksums, and that this machine decodes the right latents."""
    cache = common.CodecCache(model, models, device)

    def check(path: Path) -> None:
        file = common.unpack(path, common.read_input(path))
        common.set_threads(threads)
        try:
            cache.for_file(file).verify(file)
        except FlicError as error:
            raise common.named(path, error) from error
        if json:
            common.print_json({"file": str(path), "ok": True})
        else:
            typer.echo(f"{path}: ok")

    def report(path: Path, error: FlicError) -> None:
        if json:
            common.print_json({"file": str(path), "ok": False, "error": str(error)})

    _each(files, check, report)


def _each(files: list[Path], act, report) -> None:
    """Every file, and every one in the folders, whatever is wrong with another."""
    failed = []

    def attempt(do, path: Path):
        try:
            return do(path)
        except FlicError as error:
            report(path, error)
            typer.echo(f"flic: {error}", err=True)
            failed.append(path)

    for path in files:
        for file in attempt(_files, path) or ():
            attempt(act, file)
    if failed:
        raise typer.Exit(1)


def _files(path: Path) -> list[Path]:
    """The .flic files in a folder and below; a file alone."""
    if not path.is_dir():
        return [path]
    found, _ = plan.walk(path, plan.is_flic)
    if not found:
        raise FlicError(f"{path}: no .flic files in this folder")
    return found


def models(folder: common.Models = None, json: common.Json = False) -> None:
    """List the models: the built-in ones, and those in the model folder."""
    found = library.entries(folder)
    if json:
        for entry in found:
            common.print_json(
                {
                    "name": entry.name,
                    "default": entry.builtin and entry.name == library.DEFAULT,
                    "builtin": entry.builtin,
                    "fingerprint": entry.fingerprint,
                    "parameters": entry.parameters,
                    "bytes": entry.path.stat().st_size,
                    "path": str(entry.path),
                    "config": entry.config,
                    "metadata": {
                        key: value
                        for key, value in entry.metadata.items()
                        if key not in ("config", "fingerprint", "format")
                    },
                }
            )
        return
    from rich.table import Table

    names = ("name", "fingerprint", "parameters", "lambda", "-q: steps", "where")
    table = Table(*names, box=None)
    for entry in found:
        default = entry.builtin and entry.name == library.DEFAULT
        table.add_row(
            entry.name + (" (default)" if default else ""),
            entry.fingerprint,
            f"{entry.parameters / 1e6:.2f} M",
            entry.metadata.get("lambda", ""),
            _qualities(entry.metadata),
            "built in" if entry.builtin else str(entry.path),
        )
    common.stdout().print(table)
    typer.echo(f"model folder: {library.default_folder() if folder is None else folder}")


def _qualities(metadata: dict[str, str]) -> str:
    """The steps of qualities 0 and 100 of a model; nothing where it has none."""
    try:
        coarse, fine = parse_ends(metadata["quality_steps"])
    except (KeyError, ValueError):
        return ""
    return f"{coarse:g} to {fine:g}"


def convert(
    source: Annotated[
        str,
        typer.Argument(
            metavar="IN",
            help="Checkpoint (.pth, .pth.tar, .pt, .safetensors), name or fingerprint.",
        ),
    ],
    target: Annotated[
        Path, typer.Argument(metavar="OUT", help=".safetensors, .pth.tar, .pth or .pt to write.")
    ],
    compact: Annotated[
        bool, typer.Option("--compact", help="Leave out what follows from the rest.")
    ] = False,
    half: Annotated[
        bool,
        typer.Option(
            "--half", help="Store matrices in float16: half the size, another fingerprint."
        ),
    ] = False,
    legacy: Annotated[
        bool,
        typer.Option("--legacy", help="As the published files are, for the authors' own programs."),
    ] = False,
    lmbda: Annotated[
        float | None, typer.Option("--lambda", min=0.0, help="Say what it was trained with.")
    ] = None,
    metric: Annotated[
        str | None, typer.Option(metavar="mse|ms-ssim", help="Say what it was trained for.")
    ] = None,
    quality_steps: Annotated[
        str | None,
        typer.Option(
            metavar="COARSE,FINE", help="Say which steps qualities 0 and 100 are, as 4,0.25."
        ),
    ] = None,
    models: common.Models = None,
    overwrite: common.Overwrite = False,
    no_overwrite: common.NoOverwrite = False,
    json: common.Json = False,
) -> None:
    """Turn a checkpoint into safetensors, with its fingerprint in the header, or into torch's own.

    CompressAI's tools read .pth.tar. Only safetensors keep --lambda, --metric and --quality-steps,
    and say that flic wrote them: any other file is replaced with --overwrite only. With --legacy, a
    .pth.tar is a flat state dict under CompressAI 1.2.4's names, as the published files are.
    """
    if not target.name.endswith(_CHECKPOINTS):
        raise OutputError(f"{target}: convert writes {', '.join(_CHECKPOINTS)} files")
    described = {
        "lambda": None if lmbda is None else f"{lmbda:g}",
        "metric": metric,
        "quality_steps": None if quality_steps is None else quality_steps.replace(",", " "),
    }
    described = {key: value for key, value in described.items() if value is not None}
    if target.suffix != ".safetensors" and (compact or half or described):
        raise OutputError(
            f"{target}: --compact, --half, --lambda, --metric and --quality-steps need a "
            ".safetensors file"
        )
    if target.suffix == ".safetensors" and legacy:
        raise OutputError(f"{target}: --legacy needs a .pth.tar, .pth or .pt file")
    if metric not in (None, "mse", "ms-ssim"):
        raise FlicError(f"--metric {metric}: want mse or ms-ssim")
    if quality_steps is not None:
        try:
            parse_ends(described["quality_steps"])
        except ValueError as error:
            raise FlicError(f"--quality-steps {quality_steps}: {error}") from error
    common.Replace.of(overwrite, no_overwrite, library.is_model).check(target)
    path = library.locate(source, models)
    from ..model import checkpoint, loading

    model = loading.convert(path, target, compact=compact, half=half, legacy=legacy, **described)
    fingerprint = checkpoint.fingerprint(model)
    if json:
        common.print_json({"output": str(target), "fingerprint": fingerprint})
    else:
        typer.echo(f"{target}: model {fingerprint}")
