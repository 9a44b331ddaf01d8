"""The options that choose how coarsely pictures are coded, and how carefully."""

import math
from typing import Annotated

import typer

from ..codec.rate import ITERATIONS, QUALITIES
from ..format.step import STEPS


def _number(value: float | None) -> float | None:
    """Typer's ranges let NaN pass."""
    if value is not None and math.isnan(value):
        raise typer.BadParameter("nan is no number")
    return value


Quality = Annotated[
    float | None,
    typer.Option(
        "-q",
        "--quality",
        min=QUALITIES[0],
        max=QUALITIES[1],
        metavar="0..100",
        callback=_number,
        help="For a model that has qualities; 100 is the best.",
    ),
]
Step = Annotated[
    float | None,
    typer.Option(
        "--step",
        min=STEPS[0],
        max=STEPS[1],
        metavar="STEP",
        callback=_number,
        help="The quantisation step, 1/64 to 64: greater for smaller files.",
    ),
]
Effort = Annotated[
    int,
    typer.Option(
        "--effort",
        min=0,
        max=len(ITERATIONS) - 1,
        metavar="0..9",
        help="From 1 on the latents are refined, for smaller files in more time; takes PyTorch.",
    ),
]
TargetBpp = Annotated[
    float | None,
    typer.Option(
        "--target-bpp",
        metavar="BPP",
        help="Bits a pixel that a file is to have, within 1 %.",
    ),
]
TargetSize = Annotated[
    int | None,
    typer.Option(
        "--target-size",
        metavar="BYTES",
        help="Bytes that a file is to have at most.",
    ),
]
TargetPsnr = Annotated[
    float | None,
    typer.Option(
        "--target-psnr",
        metavar="DB",
        help="PSNR (RGB) that a picture is to have.",
    ),
]
