"""Whole .flic files of photographs against their ideal code length.

    python -m benches file_overhead --photos DIR [-m MODEL] [--write FILE[:PART]] [--json FILE]

Ideal is the sum of -log2 of the likelihoods that the model's own forward pass gives for the coded
integers; everything else in the file counts as overhead. Prints a table in Markdown.
"""

from collections.abc import Sequence

import torch

from benches.harness import photos, study
from flic.codec.codec import Codec
from flic.format import container, stream
from flic.model import loading


def main(arguments: Sequence[str]) -> None:
    parser = study.parser(__name__, __doc__, model="the built-in one")
    given = parser.parse_args(arguments)
    codec = Codec(loading.load_model(given.model))
    rows = []
    for name, picture in photos.pictures(given.photos):
        data = codec.encode_picture(picture, tile="none")
        x = torch.from_numpy(picture.pixels).permute(2, 0, 1)[None] / 255
        with torch.no_grad():
            likelihoods = codec.model(x)["likelihoods"].values()
        ideal = sum(-p.double().log2().sum().item() for p in likelihoods) / 8
        (coded,) = container.unpack(data).streams
        payload = len(stream.unpack(coded).payload)
        parts = (payload - ideal, len(coded) - payload, len(data) - len(coded))
        over = len(data) - ideal
        cells = [name, f"{ideal:.0f}", f"{len(data)}"]
        cells += [f"{over:+.0f} ({100 * over / ideal:.2f} %)", *(f"{part:+.0f}" for part in parts)]
        rows.append(cells)
    head = ("picture", "ideal", "file", "over", "coder", "checks", "header")
    study.publish(given, head, rows)
