"""Writes files/: .flic files that every later version must decode, and what they must give.

Run from the repository root: PYTHONPATH=.:tests/helpers python tests/golden/make_files.py NAME...,
for files that are not there yet: those that are there never change, it refuses them. The model is
golden_model.portable_model(), whose fingerprint is in each file.
"""

import dataclasses
import io
import json
import sys
import zlib
from pathlib import Path

import numpy as np
import torch
from golden_model import file_latents, portable_model
from PIL import Image, ImageCms

from flic.format import container
from flic.coding import entropy
from flic.codec.codec import Codec
from flic.codec.rate import Rate

FILES = Path(__file__).with_name("files")


def pixels(width, height, channels=3):
    """A pattern with smooth parts, edges and noise, by integers only."""
    y, x, c = np.mgrid[:height, :width, :channels]
    smooth = 128 + (x * (3 + c) - 2 * y) % 97 - 48
    noise = (x * 7919 + y * 104729 + c * 1299709) * 2654435761 % 2**32 >> 26
    edges = np.where((x // 19 + y // 23) % 2, 45, 0)
    return (smooth + noise - 32 + edges).clip(0, 255).astype(np.uint8)


def plain():
    return Image.fromarray(pixels(128, 128))


def odd():
    return Image.fromarray(pixels(129, 257))


def smallest():
    return Image.fromarray(pixels(1, 1))


def gray():
    return Image.fromarray(pixels(96, 64, 1)[..., 0])


def alpha():
    return Image.fromarray(np.concatenate((pixels(130, 70), pixels(130, 70, 1)[::-1]), 2))


def metadata():
    out, exif = io.BytesIO(), Image.Exif()
    exif[0x010F], exif[0x8298] = "Maker", "Nobody"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(pixels(61, 67)).save(out, "PNG", exif=exif, icc_profile=profile)
    return out.getvalue()


def all_together():
    out, exif = io.BytesIO(), Image.Exif()
    exif[0x010F] = "Maker"
    image = Image.fromarray(pixels(33, 150, 2)[..., ::-1].copy(), "LA")
    image.save(out, "PNG", exif=exif)
    return out.getvalue()


def wide(codec):
    """Integers far from what pictures give: escapes, many lanes."""
    config, h, w = codec.model.config, 4, 6
    draw = np.random.RandomState(5).randint
    y = draw(-60, 61, (1, config.latent, 4 * h, 4 * w))
    z = draw(-9, 10, (1, config.hyper, h, w))
    y.flat[::501], z.flat[::31] = -(2**23), 10**5
    latents = entropy.Latents(*(torch.from_numpy(a.astype(np.int32)) for a in (y, z)))
    [stream] = entropy.encode(codec.model, latents)
    return container.pack(container.Container(64 * w, 64 * h, codec.fingerprint, (stream,)))


def tiled():
    return Image.fromarray(pixels(270, 135))


def tiled_all():
    return Image.fromarray(pixels(129, 300, 2)[..., ::-1].copy(), "LA")


def step_coarse():
    return Image.fromarray(pixels(200, 140))


def step_fine():
    return Image.fromarray(pixels(64, 129, 2)[..., ::-1].copy(), "LA")


def tiled_step():
    return Image.fromarray(pixels(270, 135))


PICTURES = {
    f.__name__: f
    for f in (
        *(plain, odd, smallest, gray, alpha, metadata, all_together, tiled, tiled_all),
        *(step_coarse, step_fine, tiled_step),
    )
}
STEPS = {"step_coarse": 3.7, "step_fine": 1 / 3, "tiled_step": 0.9}
"""Of the files whose step is not 1."""


def describe(data, codec):
    """(facts, arrays) of a file: all that decoding it must give."""
    file, picture = container.unpack(data), codec.decode_picture(data)
    latents = file_latents(codec.model, file)
    facts = dataclasses.asdict(file) | {"version": file.version}
    facts["fingerprint"] = file.fingerprint.hex()
    facts["stream"] = b"".join(facts.pop("streams"))
    for name in ("stream", "icc", "exif"):
        facts[name] = None if facts[name] is None else zlib.crc32(facts[name])
    facts["alpha"] = None if file.alpha is None else zlib.crc32(picture.alpha.tobytes())
    facts["latents"] = latents.crc32(0)
    return facts, {"y": latents.y[0].numpy(), "z": latents.z[0].numpy(), "pixels": picture.pixels}


def main():
    codec = Codec(portable_model())
    FILES.mkdir(exist_ok=True)
    for name in sys.argv[1:]:
        target = FILES / f"{name}.flic"
        if target.exists():
            raise SystemExit(f"{target} is there: golden files never change")
        tile = 128 if name.startswith("tiled") else "none"
        rate = Rate(step=STEPS.get(name))
        if name == "wide":
            data = wide(codec)
        else:
            data = codec.encode(PICTURES[name](), rate=rate, tile=tile)
        facts, arrays = describe(data, codec)
        target.write_bytes(data)
        target.with_suffix(".json").write_text(json.dumps(facts, indent=1) + "\n")
        np.savez_compressed(target.with_suffix(".npz"), **arrays)
        print(f"{target}: {len(data)} bytes, latents {facts['latents']:08x}")


if __name__ == "__main__":
    main()
