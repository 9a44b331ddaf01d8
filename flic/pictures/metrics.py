"""How near a decoded picture is to the original, and what it costs."""

import math

import numpy as np

_MS_SSIM_SIDE = 161  # 11 x 11 windows at five scales


def bits_per_pixel(size: int, width: int, height: int) -> float:
    """Bits a pixel of a file of `size` bytes."""
    return 8 * size / (width * height)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB of uint8 arrays of one shape; infinite where equal."""
    if a.shape != b.shape or a.dtype != np.uint8 or b.dtype != np.uint8:
        raise ValueError(f"need uint8 arrays of one shape, not {a.shape} and {b.shape}")
    error = float(np.mean((a.astype(np.float32) - b.astype(np.float32)) ** 2, dtype=np.float64))
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


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
