"""The frame around pictures."""

import numpy as np
import pytest

from flic.evaluation.coders import zero_frame


@pytest.mark.parametrize("height, width", [(5, 256), (255, 3), (256, 512), (1, 1)])
def test_zero_frame(height, width):
    """CompressAI's compute_padding puts the picture at the same place."""
    from compressai.ops import compute_padding

    pixels = np.full((height, width, 3), 7, np.uint8)
    framed, top, left = zero_frame(pixels, 256)
    (west, east, north, south), _ = compute_padding(height, width, min_div=256)
    assert (top, left) == (north, west)
    assert framed.shape[:2] == (north + height + south, west + width + east)
    assert framed.sum() == pixels.sum()
    assert (framed[top : top + height, left : left + width] == 7).all()
    assert zero_frame(pixels, None) == (pixels, 0, 0)
