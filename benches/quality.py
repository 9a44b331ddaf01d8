"""Rate and quality of a model on a folder of photographs, beside JPEG at the same file size.

    python -m benches.quality --photos DIR [-m MODEL]

Whole files, metadata stripped, 8-bit pictures. JPEG is Pillow's, optimised, 4:2:0, at the highest
quality that is no larger than the .flic file. Prints a table in Markdown.
"""

import statistics

from benches import photos
from flic import figure, library, metrics
from flic.codec import Codec


def main() -> None:
    options = photos.options(__doc__)
    codec = Codec(library.load_model(options.model))
    rows = []
    print("| picture | bpp | PSNR | MS-SSIM | JPEG bpp | JPEG PSNR | JPEG MS-SSIM |")
    print("|" + "---|" * 7)
    for name, picture in photos.pictures(options.photos):
        data = codec.encode_picture(picture)
        decoded = codec.decode_picture(data).pixels
        size, _, jpeg = figure.jpeg_of_size(picture.pixels, len(data))
        row = []
        for length, pixels in ((len(data), decoded), (size, jpeg)):
            row.append(metrics.bits_per_pixel(length, picture.width, picture.height))
            row.append(metrics.psnr(picture.pixels, pixels))
            row.append(metrics.ms_ssim(picture.pixels, pixels))
        rows.append(row)
        _print(name, row)
    _print("mean", [statistics.mean(column) for column in zip(*rows, strict=True)])


def _print(name: str, row: list[float]) -> None:
    cells = [f"{value:.{digits}f}" for value, digits in zip(row, (3, 2, 4) * 2, strict=True)]
    print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
