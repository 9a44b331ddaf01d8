"""How good a model is on held-out pictures: the estimated loss, and what real files give."""

from __future__ import annotations

import statistics

import numpy as np
import torch
import torch.nn.functional as F
from pytorch_msssim import ms_ssim
from torch import Tensor

from ..codec.codec import Codec
from ..codec.rate import Rate
from ..format.step import float32
from ..model.network import FLIC
from ..pictures import metrics
from ..pictures.images import Picture
from .crops import to_tensor
from .distributed import World
from .loss import rate_distortion
from .pictures import Pictures
from .progress import psnr
from .recipe import MS_SSIM_SIDE, Recipe

COLUMNS = ("quant_step", "loss", "bpp_estimated", "bpp", "psnr", "ms_ssim")


def validate(
    model: FLIC, pictures: Pictures, recipe: Recipe, world: World, quant_step: float = 1.0
) -> dict[str, float | None]:
    """Means over pictures, whole or as `Recipe.published_validation` says; processes divide them.

    quant_step: the quantisation step that they are coded with.

    "loss" and "bpp_estimated" come from the network in evaluation mode, float32; "bpp" from the
    length of whole .flic files; "psnr" (dB) and "ms_ssim" (of pictures with sides of 161 pixels or
    more, else None) from the 8-bit pictures decoded from them, with `published_validation` from the
    network's output in [0, 1]. Damaged pictures do not count. ValueError where there are no others.
    """
    codec, quant_step = Codec(model), float32(quant_step)
    rows = {}
    for index in range(world.rank, len(pictures), world.size):
        row = _scores(codec, pictures, index, recipe, world, quant_step)
        if row is not None:
            rows[index] = row
    # In the pictures' order, whatever the number of processes: the sums are the same.
    everything = {}
    for part in world.gather(rows):
        everything |= part
    if not everything:
        raise ValueError("every validation picture is damaged")
    scores = [everything[index] for index in sorted(everything)]
    means = {name: _mean([row[name] for row in scores]) for name in COLUMNS[1:]}
    return {"quant_step": quant_step} | means


@torch.no_grad()
def _scores(
    codec: Codec,
    pictures: Pictures,
    index: int,
    recipe: Recipe,
    world: World,
    quant_step: float,
) -> dict[str, float | None] | None:
    pixels = pictures.read(index)
    if pixels is None:
        return None
    if recipe.published_validation:
        pixels = central(pixels, recipe.crop)
    x = to_tensor(pixels[None], world.device)
    steps = torch.tensor([quant_step], device=world.device) if recipe.variable else None
    out = codec.model(x, steps=steps)
    terms = rate_distortion(out, x, recipe.lmbda, recipe.metric, steps=steps)
    data = codec.encode_picture(Picture.from_array(pixels), rate=Rate(step=quant_step))
    if recipe.published_validation:
        quality = _unrounded(out["x_hat"].clamp(0, 1), x)
    else:
        decoded = codec.decode_picture(data).pixels
        quality = {
            "psnr": metrics.psnr(pixels, decoded),
            "ms_ssim": metrics.ms_ssim(pixels, decoded),
        }
    return {
        "loss": float(terms["loss"]),
        "bpp_estimated": float(terms["bpp"]),
        "bpp": metrics.bits_per_pixel(len(data), pixels.shape[1], pixels.shape[0]),
        **quality,
    }


def central(pixels: np.ndarray, side: int) -> np.ndarray:
    """The central `side` x `side` pixels of [H, W, C], at the place of torchvision's CenterCrop."""
    top, left = (round((length - side) / 2) for length in pixels.shape[:2])
    return np.ascontiguousarray(pixels[top : top + side, left : left + side])


def _unrounded(x_hat: Tensor, x: Tensor) -> dict[str, float | None]:
    """PSNR and MS-SSIM of pictures [1, 3, H, W] in [0, 1], as floats."""
    small = min(x.shape[2:]) < MS_SSIM_SIDE
    return {
        "psnr": psnr(float(F.mse_loss(x_hat, x))),
        "ms_ssim": None if small else float(ms_ssim(x_hat, x, data_range=1.0)),
    }


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None
