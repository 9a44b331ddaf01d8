"""The pictures that README shows, made again: `make figures`.

    python -m benches figures [--photos DIR] [--out docs/figures]

- side-by-side.png: a part of a photograph as it is, and from JPEG, WebP and .flic files of at most
  one size.
- rate-distortion.png: the built-in model from its coarsest to its finest step, without and with an
  effort, against JPEG, WebP and AVIF, means over the photographs: those that flic ships, or those
  of DIR.
- benchmarks.png: drawn from rows under benches/results/, which `make bench` measured.
"""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from benches.harness import report, rows, study
from flic.codec.opening import open_codec
from flic.codec.rate import Rate
from flic.evaluation import chart, run, select
from flic.pictures import images, metrics

ROOT = Path(__file__).parent.parent.parent
ASSETS = ROOT / "flic" / "assets"
ROWS = ("epyc-2-cores.jsonl", "epyc-2-cores-compile.jsonl")
WHOLE = ("g_a", "g_s", "hyper_synthesis", "tca")
PARTS = ("fat_block", "window_attention")  # at the first resolution
IMPLEMENTATIONS = ("compile", "sdpa", "cpu", "default")
STEPS = (0.25, 0.4, 0.63, 1.0, 1.6, 2.5, 4.0)
EFFORTS = (0, 6)
SIDE, SCALE = 192, 2  # of a panel: pixels of the photograph, and how large each is drawn


def main(arguments: Sequence[str]) -> None:
    parser = study.parser(__name__, __doc__, publishes=False)
    parser.add_argument("--photos", type=Path, default=ASSETS)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "figures")
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    side_by_side(ASSETS / "dandelion.png", (160, 120)).save(given.out / "side-by-side.png")
    (given.out / "rate-distortion.png").write_bytes(rate_distortion(given.photos))
    benchmarks(given.out / "benchmarks.png")
    print(f"written to {given.out}")


def side_by_side(path: Path, corner: tuple[int, int]) -> Image.Image:
    """Panels of one part of a photograph: as it is, and from files of at most one size."""
    picture = images.read(path, strip=True)
    data = open_codec().encode_picture(picture, rate=Rate(step=1.6))
    panels = [("original", 0, picture.pixels)]
    for kind, given in (("JPEG", {"optimize": True}), ("WebP", {"method": 6})):
        panels.append((kind, *fitting(picture.pixels, len(data), kind, given)))
    panels.append(("FLIC", len(data), open_codec().decode_picture(data).pixels))
    width, margin, text = SIDE * SCALE, 8, 46
    canvas = Image.new("RGB", (len(panels) * (width + margin) - margin, width + text), "white")
    draw, fonts = ImageDraw.Draw(canvas), [ImageFont.load_default(size) for size in (20, 14)]
    left, top = corner
    for i, (name, size, pixels) in enumerate(panels):
        x = i * (width + margin)
        psnr = f"{metrics.psnr(picture.pixels, pixels):.1f} dB" if size else ""
        draw.text((x, 0), name, "black", fonts[0])
        draw.text((x, 26), f"{size:,} bytes, {psnr}" if size else path.name, "#555555", fonts[1])
        part = Image.fromarray(pixels).crop((left, top, left + SIDE, top + SIDE))
        canvas.paste(part.resize((width, width), Image.Resampling.NEAREST), (x, text))
    return canvas


def fitting(pixels: np.ndarray, size: int, kind: str, given: dict) -> tuple[int, np.ndarray]:
    """Bytes and pixels of the best of Pillow's files of at most `size` bytes, or the smallest's."""
    coded = None
    for quality in range(1, 96):
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, kind, quality=quality, **given)
        if coded is not None and len(out.getvalue()) > size:
            break
        coded = out.getvalue()
    return len(coded), np.array(Image.open(io.BytesIO(coded)).convert("RGB"))


def rate_distortion(photos: Path) -> bytes:
    pictures = select.pictures(photos)
    models = select.models(["small"], None, [Rate(step=step) for step in STEPS], [])
    settings = run.Settings(efforts=EFFORTS)
    found = run.evaluate(pictures, models, ["jpeg", "webp", "avif"], settings)
    return chart.draw(found, (9.0, 4.2), 110, with_published=False)["png"]


def benchmarks(path: Path) -> None:
    """Float32, as times of eager's speed."""
    first, second = (rows.read(ROOT / "benches" / "results" / name) for name in ROWS)
    chosen = [
        row
        for row in rows.merge(first, second)
        if (row.op in WHOLE or row.op in PARTS and row.case.startswith("96"))
        and row.dtype == "float32"
        and row.impl in IMPLEMENTATIONS
    ]
    report.chart(chosen, path, [path.suffix])
