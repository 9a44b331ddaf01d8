"""Pictures continued to the sides that the network takes. Needs no torch."""

from __future__ import annotations

import numpy as np

_FADE = 8.0  # pixels in which padding falls to 1/e of its difference to the mean


def mean_colour(pixels: np.ndarray) -> np.ndarray:
    """Of uint8 [H, W, 3], in [0, 1]: float32 [3]."""
    return (pixels.mean((0, 1)) / 255).astype(np.float32)


def pad(pixels: np.ndarray, size: tuple[int, int], mean: np.ndarray) -> np.ndarray:
    """uint8 [h, w, 3] as float32 [H, W, 3] in [0, 1], continued to the right and below.

    The last column and row fade into the mean within a few pixels: of the paddings that
    `python -m benches padding` compares, the one that costs the fewest bits.

    size: H and W. mean: what to fade into, float32 [3]: of the whole picture, of which `pixels` may
    be the lower right part.
    """
    x = pixels.astype(np.float32) / np.float32(255)
    (height, width), (rows, columns) = pixels.shape[:2], size
    if (height, width) == (rows, columns):
        return x
    border = np.pad(x, ((0, rows - height), (0, columns - width), (0, 0)), mode="edge")
    below = np.maximum(np.arange(rows) - height + 1, 0)
    right = np.maximum(np.arange(columns) - width + 1, 0)
    fade = np.exp(np.arange(below[-1] + right[-1] + 1) / -_FADE).astype(np.float32)
    return border + (mean - border) * (1 - fade[below[:, None] + right])[..., None]
