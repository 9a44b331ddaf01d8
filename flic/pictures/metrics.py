"""How near a decoded picture is to the original, and what it costs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from PIL import Image, ImageChops

if TYPE_CHECKING:
    import numpy as np

_MS_SSIM_SIDE = 161  # 11 x 11 windows at five scales


def bits_per_pixel(size: int, width: int, height: int) -> float:
    """Bits a pixel of a file of `size` bytes."""
    return 8 * size / (width * height)


def psnr(a: Image.Image | np.ndarray, b: Image.Image | np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB; infinite where equal.

    a, b: images of mode L or RGB, or uint8 arrays [H, W] or [H, W, 3], of one size.
    """
    a, b = (each if isinstance(each, Image.Image) else _image(each) for each in (a, b))
    if a.size != b.size or a.mode != b.mode:
        raise ValueError(f"need pictures of one shape, not {a.mode} {a.size} and {b.mode} {b.size}")
    counts = ImageChops.difference(a, b).histogram()  # of each difference, band by band
    error = sum(count * (value % 256) ** 2 for value, count in enumerate(counts)) / sum(counts)
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def _image(pixels: np.ndarray) -> Image.Image:
    if pixels.dtype != "uint8" or pixels.shape[2:] not in ((), (3,)):
        raise ValueError(f"need uint8 [H, W] or [H, W, 3], not {pixels.dtype} {pixels.shape}")
    return Image.fromarray(pixels)


def ms_ssim(a: np.ndarray, b: np.ndarray) -> float | None:
    """MS-SSIM of uint8 arrays [H, W, 3]; None where a side is under 161 pixels, its least."""
    import torch
    from pytorch_msssim import ms_ssim as compute

    if min(a.shape[:2]) < _MS_SSIM_SIDE:
        return None
    x, y = (torch.from_numpy(c).permute(2, 0, 1)[None].float() for c in (a, b))
    return float(compute(x, y, data_range=255))


def in_db(ratio: float) -> float:
    """An MS-SSIM in dB: -10 log10(1 - ratio)."""
    return math.inf if ratio >= 1 else -10 * math.log10(1 - ratio)
