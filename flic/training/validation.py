"""How good a model is on held-out pictures: the estimated loss, and what real files give."""

from __future__ import annotations

import statistics

import torch

from .. import metrics
from ..codec import Codec
from ..images import Picture
from ..model import FLIC
from .crops import to_tensor
from .distributed import World
from .loss import rate_distortion
from .pictures import Pictures
from .recipe import Recipe

COLUMNS = ("loss", "bpp_estimated", "bpp", "psnr", "ms_ssim")


def validate(
    model: FLIC, pictures: Pictures, recipe: Recipe, world: World
) -> dict[str, float | None]:
    """Means over whole pictures, which the processes divide among themselves.

    "loss" and "bpp_estimated" come from the network in evaluation mode, float32; "bpp" from the
    length of whole .flic files; "psnr" (dB) and "ms_ssim" (of pictures with sides of 161 pixels or
    more, else None) from the 8-bit pictures decoded from them. Damaged pictures do not count.
    ValueError where there are no others.
    """
    codec = Codec(model)
    rows = {}
    for index in range(world.rank, len(pictures), world.size):
        row = _scores(codec, pictures, index, recipe, world)
        if row is not None:
            rows[index] = row
    # In the pictures' order, whatever the number of processes: the sums are the same.
    everything = {}
    for part in world.gather(rows):
        everything |= part
    if not everything:
        raise ValueError("every validation picture is damaged")
    scores = [everything[index] for index in sorted(everything)]
    return {name: _mean([row[name] for row in scores]) for name in COLUMNS}


@torch.no_grad()
def _scores(
    codec: Codec, pictures: Pictures, index: int, recipe: Recipe, world: World
) -> dict[str, float | None] | None:
    pixels = pictures.read(index)
    if pixels is None:
        return None
    x = to_tensor(pixels[None], world.device)
    terms = rate_distortion(codec.model(x), x, recipe.lmbda, recipe.metric)
    data = codec.encode_picture(Picture(pixels))
    decoded = codec.decode_picture(data).pixels
    return {
        "loss": float(terms["loss"]),
        "bpp_estimated": float(terms["bpp"]),
        "bpp": metrics.bits_per_pixel(len(data), pixels.shape[1], pixels.shape[0]),
        "psnr": metrics.psnr(pixels, decoded),
        "ms_ssim": metrics.ms_ssim(pixels, decoded),
    }


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None
