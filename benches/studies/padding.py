"""What ways of padding a picture to multiples of 128 cost in bits.

    python -m benches padding --photos DIR [-m MODEL] [--write FILE[:PART]] [--json FILE]

Crops of 420x300 and 200x340 (padded area 56 and 45 % larger) of every picture: the sum of -log2 of
the likelihoods, relative to repeating the border, and the PSNR inside the crop.
"""

import math
import sys
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from benches.harness import photos, study
from flic.model import loading, network

CROPS = ((300, 420), (340, 200))


def _right_and_below(mode: str, x: Tensor) -> tuple[Tensor, int, int]:
    height, width = network.padded(x.shape[2:])
    size = (0, width - x.shape[3], 0, height - x.shape[2])
    return F.pad(x, size, mode=mode), 0, 0


def _centred_zeros(x: Tensor) -> tuple[Tensor, int, int]:
    height, width = network.padded(x.shape[2:])
    top, left = (height - x.shape[2]) // 2, (width - x.shape[3]) // 2
    size = (left, width - x.shape[3] - left, top, height - x.shape[2] - top)
    return F.pad(x, size), top, left


def _mean(x: Tensor) -> tuple[Tensor, int, int]:
    mean = x.mean((2, 3), keepdim=True)
    padded, _, _ = _right_and_below("constant", x - mean)
    return padded + mean, 0, 0


PADDINGS = {
    "repeated border": lambda x: _right_and_below("replicate", x),
    "reflection": lambda x: _right_and_below("reflect", x),
    "zeros": lambda x: _right_and_below("constant", x),
    "zeros all around": _centred_zeros,
    "mean": _mean,
    "border fading to the mean": lambda x: (network.pad(x), 0, 0),
}


@torch.no_grad()
def main(arguments: Sequence[str]) -> None:
    parser = study.parser(__name__, __doc__, model="the built-in one")
    given = parser.parse_args(arguments)
    net = loading.load_model(given.model)
    bits, errors = dict.fromkeys(PADDINGS, 0.0), dict.fromkeys(PADDINGS, 0.0)
    pixels = 0
    least = [max(sides) for sides in zip(*CROPS, strict=True)]
    for name, picture in photos.pictures(given.photos):
        if picture.height < least[0] or picture.width < least[1]:
            sys.exit(f"{name} is smaller than {least[1]}x{least[0]}")
        whole = torch.from_numpy(picture.pixels).permute(2, 0, 1)[None] / 255
        for height, width in CROPS:
            x = whole[:, :, -height:, -width:]
            pixels += x.numel()
            for name, padding in PADDINGS.items():
                padded, top, left = padding(x)
                out = net(padded)
                inside = out["x_hat"][:, :, top : top + height, left : left + width]
                errors[name] += (inside.clamp(0, 1) - x).square().sum().item()
                bits[name] -= sum(p.log2().sum().item() for p in out["likelihoods"].values())
    rows = []
    for name in PADDINGS:
        psnr = -10 * math.log10(errors[name] / pixels)
        rows.append((name, f"{bits[name] / bits['repeated border']:.3f}", f"{psnr:.2f} dB"))
    study.publish(given, ("padding", "bits", "PSNR"), rows)
