"""A picture of pictures: originals and decoded ones side by side, with a zoomed crop."""

import io
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_MAX_WIDTH = 768  # of a panel, pixels
_MARGIN = 16
_INK, _FAINT, _PAPER, _FRAME = (24, 24, 24), (96, 96, 96), (255, 255, 255), (214, 40, 40)


class Panel(NamedTuple):
    """One column: a title, two lines of numbers, and uint8 pixels [H, W, 3]."""

    title: str
    line: str
    note: str
    pixels: np.ndarray


def jpeg_of_size(pixels: np.ndarray, size: int) -> tuple[int, int, np.ndarray]:
    """The best JPEG (Pillow, optimised, 4:2:0) of at most `size` bytes, or else the smallest.

    Returns its bytes' number, its quality (1 to 95) and its decoded pixels, uint8 [H, W, 3].
    """
    low, high = 1, 95
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if len(_jpeg(pixels, middle)) <= size else (low, middle - 1)
    data = _jpeg(pixels, low)
    return len(data), low, np.array(Image.open(io.BytesIO(data)))


def _jpeg(pixels: np.ndarray, quality: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=quality, optimize=True, subsampling="4:2:0")
    return out.getvalue()


def busiest_crop(pixels: np.ndarray, side: int) -> tuple[int, int]:
    """Top left (x, y) of the square of this side with the most detail, on a coarse grid."""
    luma = pixels.astype(np.float32).mean(2)
    detail = np.zeros_like(luma)
    detail[:, 1:] += np.abs(np.diff(luma, axis=1))
    detail[1:] += np.abs(np.diff(luma, axis=0))
    total = np.pad(detail, ((1, 0), (1, 0))).cumsum(0, dtype=np.float64).cumsum(1)
    inside = total[side:, side:] - total[:-side, side:] - total[side:, :-side]
    inside += total[:-side, :-side]
    step = max(1, side // 8)
    row, column = np.unravel_index(inside[::step, ::step].argmax(), inside[::step, ::step].shape)
    return int(column) * step, int(row) * step


def side_by_side(panels: list[Panel]) -> Image.Image:
    """The panels as columns: text, the whole picture, and a crop at a larger scale.

    All panels' pixels have one shape; the crop is where the first panel has the most detail.
    """
    height, width = panels[0].pixels.shape[:2]
    scale = min(1.0, _MAX_WIDTH / width)
    shown = (max(1, round(width * scale)), max(1, round(height * scale)))
    column = max(shown[0], 384)
    side = max(1, min(width, height, max(32, min(width, height) // 4)))
    left, top = busiest_crop(panels[0].pixels, side)
    title_font, font = ImageFont.load_default(22), ImageFont.load_default(15)
    picture_y = _MARGIN + 76
    crop_y = picture_y + shown[1] + _MARGIN
    canvas = Image.new(
        "RGB",
        (_MARGIN + len(panels) * (column + _MARGIN), crop_y + column + _MARGIN),
        _PAPER,
    )
    draw = ImageDraw.Draw(canvas)
    for i, panel in enumerate(panels):
        x = _MARGIN + i * (column + _MARGIN)
        draw.text((x, _MARGIN), panel.title, _INK, title_font)
        draw.text((x, _MARGIN + 30), panel.line, _INK, font)
        draw.text((x, _MARGIN + 50), panel.note, _FAINT, font)
        image = Image.fromarray(panel.pixels)
        small = image if scale == 1 else image.resize(shown, Image.Resampling.LANCZOS)
        canvas.paste(small, (x, picture_y))
        corners = [
            x + round(left * scale),
            picture_y + round(top * scale),
            x + round((left + side) * scale) - 1,
            picture_y + round((top + side) * scale) - 1,
        ]
        if side * scale >= 8:
            draw.rectangle(corners, outline=_FRAME, width=2)
        crop = image.crop((left, top, left + side, top + side))
        canvas.paste(crop.resize((column, column), Image.Resampling.NEAREST), (x, crop_y))
    return canvas
