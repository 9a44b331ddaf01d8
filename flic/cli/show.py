"""`flic compare` and `flic demo`: what the codec does, in numbers and side by side."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .. import output
from ..codec.rate import Rate
from ..model import library
from . import common, rates

if TYPE_CHECKING:
    from ..pictures.images import Picture

ASSETS = Path(__file__).parent.parent / "assets"
_SHOWN = (".png", ".compare.png")  # of each picture: decoded, and side by side


def compare(
    source: Annotated[Path, typer.Argument(metavar="IN", help="Picture, or - for stdin.")],
    target: Annotated[
        Path | None,
        typer.Argument(metavar="OUT", help="PNG to write [default: IN's name + .compare.png]."),
    ] = None,
    quality: rates.Quality = None,
    step: rates.Step = None,
    target_bpp: rates.TargetBpp = None,
    target_size: rates.TargetSize = None,
    target_psnr: rates.TargetPsnr = None,
    model: common.Model = None,
    models: common.Models = None,
    device: common.Device = "cpu",
    threads: common.Threads = None,
    overwrite: common.Overwrite = False,
    no_overwrite: common.NoOverwrite = False,
    json: common.Json = False,
) -> None:
    """Code a picture and show it beside the original and a JPEG of the same size, with numbers."""
    rate = Rate(quality, step, target_bpp, target_size, target_psnr)
    if target is None:
        target = Path(("stdin" if source == common.STDIO else source.stem) + ".compare.png")
    if target.suffix.lower() != ".png":
        raise typer.BadParameter("OUT must be a .png file")
    replace = common.Replace.of(overwrite, no_overwrite, output.wrote_picture)
    replace.check(target)
    picture = common.read_picture(source, strip=True)
    common.set_threads(threads)
    codec = common.CodecCache(model, models, device).for_encoding()
    _, decoded, row = _code(codec, picture, rate)
    row = {"input": str(source), "output": str(target), **row}
    row["model_name"] = library.locate(model, models).stem
    drawn, row["jpeg"] = _figure(picture, decoded, row)
    replace.write(target, drawn)
    if json:
        common.print_json(row)
    else:
        _print_table([row])
        _say_beside(row)
        typer.echo(f"side by side: {target}")


def demo(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write into.")] = Path(
        "demo"
    ),
    model: common.Model = None,
    device: common.Device = "cpu",
    threads: common.Threads = None,
    overwrite: common.Overwrite = False,
    json: common.Json = False,
) -> None:
    """Compress the photographs that come with flic, decode them, and show what happened."""
    output.make_folder(folder)
    files = common.Replace.of(overwrite, False, output.wrote_flic)
    pictures = common.Replace.of(overwrite, False, output.wrote_picture)
    sources = sorted(ASSETS.glob("*.png"))
    targets = [[folder / f"{s.stem}{end}" for end in (".flic", *_SHOWN)] for s in sources]
    for coded, *shown in targets:
        files.check(coded)
        for target in shown:
            pictures.check(target)
    common.set_threads(threads)
    codec = common.CodecCache(model, None, device).for_encoding()
    from ..pictures import images

    rows = []
    for source, (coded, plain, side_by_side) in zip(sources, targets, strict=True):
        picture = images.read(source, strip=True)
        data, decoded, row = _code(codec, picture)
        files.write(coded, data)
        pictures.write(plain, images.to_bytes(decoded.to_pil(), ".png"))
        row = {"input": source.name, "output": str(side_by_side), **row}
        row["model_name"] = library.locate(model).stem
        drawn, row["jpeg"] = _figure(picture, decoded, row)
        pictures.write(side_by_side, drawn)
        rows.append(row)
    if json:
        common.print_json(rows)
    else:
        _print_table(rows)
        for row in rows:
            _say_beside(row)
        typer.echo(f"written to {folder}: .flic files, decoded .png, side by side .compare.png")


def _code(codec, picture: "Picture", rate: Rate | None = None) -> "tuple[bytes, Picture, dict]":
    """Encode and decode; the file, the decoded picture and the numbers."""
    from ..pictures import metrics

    start = time.perf_counter()
    data, step, _ = codec.encode_at(rate or Rate(), picture)
    between = time.perf_counter()
    decoded = codec.decode_picture(data)
    end = time.perf_counter()
    return (
        data,
        decoded,
        {
            "width": picture.width,
            "height": picture.height,
            "bytes": len(data),
            "bpp": metrics.bits_per_pixel(len(data), picture.width, picture.height),
            "step": step,
            "psnr": metrics.psnr(picture.image, decoded.image),
            "encode_seconds": between - start,
            "decode_seconds": end - between,
            "model": codec.fingerprint.hex(),
        },
    )


def _figure(picture: "Picture", decoded: "Picture", row: dict) -> tuple[bytes, dict]:
    """The side-by-side picture, and the numbers of the JPEG in it."""
    from ..pictures import images, metrics
    from ..pictures.side_by_side import Panel, jpeg_of_size, side_by_side

    original, coded = (each.image.convert("RGB") for each in (picture, decoded))
    jpeg_bytes, quality, jpeg = jpeg_of_size(original, row["bytes"])
    jpeg_row = {
        "quality": quality,
        "bytes": jpeg_bytes,
        "bpp": metrics.bits_per_pixel(jpeg_bytes, picture.width, picture.height),
        "psnr": metrics.psnr(original, jpeg),
    }
    title = f"JPEG, quality {quality}"
    if jpeg_bytes > row["bytes"]:
        title = "JPEG, the smallest that it gives"
    times = f"encode {row['encode_seconds']:.2f} s, decode {row['decode_seconds']:.2f} s"
    panels = [
        Panel("original", f"{picture.width}x{picture.height}", "", original),
        Panel(f"FLIC, model {row['model_name']}", _caption(row), times, coded),
        Panel(title, _caption(jpeg_row), "", jpeg),
    ]
    return images.to_bytes(side_by_side(panels), ".png"), jpeg_row


def _say_beside(row: dict) -> None:
    """The model, and the JPEG that the picture is compared with."""
    jpeg = row["jpeg"]
    typer.echo(f"{row['input']}: model {row['model_name']} ({row['model']})")
    typer.echo(f"{row['input']}: JPEG of quality {jpeg['quality']}, {_caption(jpeg)}")


def _caption(row: dict) -> str:
    size = common.size_text(row["bytes"])
    return f"{size}, {row['bpp']:.3f} bpp, PSNR {row['psnr']:.2f} dB"


def _print_table(rows: list[dict]) -> None:
    from rich.table import Table

    names = ("picture", "size", "file", "bpp", "PSNR", "encode", "decode")
    table = Table(box=None)
    for name in names:
        table.add_column(name, justify="left" if name == "picture" else "right", no_wrap=True)
    for row in rows:
        table.add_row(
            row["input"],
            f"{row['width']}x{row['height']}",
            common.size_text(row["bytes"]),
            f"{row['bpp']:.3f}",
            f"{row['psnr']:.2f} dB",
            f"{row['encode_seconds']:.2f} s",
            f"{row['decode_seconds']:.2f} s",
        )
    common.stdout().print(table)
