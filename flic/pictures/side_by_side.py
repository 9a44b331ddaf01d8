"""A picture of pictures: originals and decoded ones side by side, with a zoomed crop."""

import io
from typing import NamedTuple

from PIL import Image, ImageChops, ImageDraw, ImageFont

_MAX_WIDTH = 768  # of a panel, pixels
_MARGIN = 16
_INK, _FAINT, _PAPER, _FRAME = (24, 24, 24), (96, 96, 96), (255, 255, 255), (214, 40, 40)


class Panel(NamedTuple):
    """One column: a title, two lines of numbers, and a picture of mode RGB."""

    title: str
    line: str
    note: str
    image: Image.Image


def jpeg_of_size(image: Image.Image, size: int) -> tuple[int, int, Image.Image]:
    """The best JPEG (Pillow, optimised, 4:2:0) of at most `size` bytes, or else the smallest.

    Returns its bytes' number, its quality (1 to 95) and what it decodes to.
    """
    low, high = 1, 95
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if len(_jpeg(image, middle)) <= size else (low, middle - 1)
    data = _jpeg(image, low)
    return len(data), low, Image.open(io.BytesIO(data)).copy()


def _jpeg(image: Image.Image, quality: int) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality, optimize=True, subsampling="4:2:0")
    return out.getvalue()


def busiest_crop(image: Image.Image, side: int) -> tuple[int, int]:
    """Top left (x, y) of the square of this side with the most detail, on a coarse grid."""
    luma, step = image.convert("L"), max(1, side // 8)
    detail = Image.new("L", luma.size)
    for across, down in ((1, 0), (0, 1)):
        part = (across, down, *luma.size)
        before = luma.crop((0, 0, luma.width - across, luma.height - down))
        steeper = ImageChops.add(ImageChops.difference(luma.crop(part), before), detail.crop(part))
        detail.paste(steeper, (across, down))
    cells = detail.convert("F").reduce(step)
    width, values = cells.width, list(cells.getdata())
    rows = [values[at : at + width] for at in range(0, len(values), width)]
    count = side // step

    def inside(at: tuple[int, int]) -> float:
        x, y = at
        return sum(sum(row[x : x + count]) for row in rows[y : y + count])

    across, down = ((size - side) // step + 1 for size in luma.size)
    x, y = max(((x, y) for y in range(down) for x in range(across)), key=inside)
    return x * step, y * step


def side_by_side(panels: list[Panel]) -> Image.Image:
    """The panels as columns: text, the whole picture, and a crop at a larger scale.

    All panels' pictures have one size; the crop is where the first panel has the most detail.
    """
    width, height = panels[0].image.size
    scale = min(1.0, _MAX_WIDTH / width)
    shown = (max(1, round(width * scale)), max(1, round(height * scale)))
    column = max(shown[0], 384)
    side = max(1, min(width, height, max(32, min(width, height) // 4)))
    left, top = busiest_crop(panels[0].image, side)
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
        image = panel.image
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
