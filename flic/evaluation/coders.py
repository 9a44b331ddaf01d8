"""What codes pictures: a FLIC model with real files, the same with estimated bits, or Pillow.

A coder is made by the evaluating process and used in the coding one (`process`): it is pickled
before `open` loads what it needs.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, features
from PIL import __version__ as pillow_version

from ..codec.rate import Rate
from ..errors import FlicError
from ..pictures.images import Picture
from .meter import Meter


@dataclass(frozen=True)
class Coded:
    """bytes: of the file, or an eighth of the estimated bits. pixels: decoded, uint8 [H, W, 3]."""

    bytes: float
    pixels: np.ndarray


@dataclass
class ModelCoder:
    """A FLIC model.

    path: its checkpoint. real: code files; otherwise estimate bits by one forward pass. pad: zeros
    all around up to multiples of this, cropped after decoding; None: the codec's own padding.
    dtype: what g_a and g_s compute in. effort: as for `flic.encode`, with real files.
    """

    path: Path
    device: str = "cpu"
    threads: int | None = None
    real: bool = True
    pad: int | None = None
    dtype: str = "float32"
    effort: int = 0

    def open(self) -> None:
        import torch

        from ..codec.codec import Codec
        from ..model import loading

        if self.threads is not None:
            torch.set_num_threads(self.threads)
        self._codec = Codec(loading.load_model(self.path, self.device), self.dtype)
        # engine, thread pool and kernels are set up by the first picture: not by one that counts
        self.code(Picture(Image.new("RGB", (128, 128), "gray")), None, Meter(self.device))

    def code(self, picture: Picture, step: float | None, meter: Meter) -> Coded:
        """step: the quantisation step; None: 1."""
        framed, top, left = zero_frame(picture.pixels, self.pad)
        framed = framed[..., 0] if picture.gray else framed
        coded = (self._file if self.real else self._estimate)(
            Picture.from_array(framed), step, meter
        )
        inside = coded.pixels[top : top + picture.height, left : left + picture.width]
        return Coded(coded.bytes, np.ascontiguousarray(inside))

    def _file(self, picture: Picture, step: float | None, meter: Meter) -> Coded:
        with meter.step("encode"):
            data = self._codec.encode_picture(picture, rate=Rate(step=step), effort=self.effort)
        with meter.step("decode"):
            decoded = self._codec.decode_picture(data)
        return Coded(len(data), decoded.pixels)

    def _estimate(self, picture: Picture, step: float | None, meter: Meter) -> Coded:
        """What the codec would decode, bar the coding: x_hat rounded to 8 bits, gray kept gray."""
        import torch

        from ..coding.tile_transforms import displayable

        model, dtype = self._codec.model, getattr(torch, self._codec.dtype)
        kind = torch.device(self.device).type
        low = torch.autocast(kind, dtype, enabled=dtype != torch.float32)
        x = torch.from_numpy(picture.pixels).to(self.device).permute(2, 0, 1)[None] / 255
        with meter.step("forward"), torch.no_grad(), low:
            out = model(x, steps=None if step is None else x.new_tensor([step]))
            bits = -sum(p.double().log2().sum() for p in out["likelihoods"].values()).item()
            x_hat = displayable(out["x_hat"][0])
            if picture.gray:
                x_hat = x_hat.mean(0, keepdim=True).expand(3, -1, -1)
            pixels = (x_hat.permute(1, 2, 0) * 255).round().to(torch.uint8).cpu().numpy()
        return Coded(bits / 8, pixels)


def zero_frame(pixels: np.ndarray, multiple: int | None) -> tuple[np.ndarray, int, int]:
    """Zeros all around uint8 [H, W, 3] up to multiples, as the authors' evaluation adds them.

    Returns the padded pixels and the row and column at which the picture starts: where the zeros
    do not divide evenly, there is one more below and to the right.
    """
    if multiple is None:
        return pixels, 0, 0
    missing = [-side % multiple for side in pixels.shape[:2]]
    before = [side // 2 for side in missing]
    around = [(b, m - b) for b, m in zip(before, missing, strict=True)]
    return np.pad(pixels, (*around, (0, 0))), *before


@dataclass(frozen=True)
class Anchor:
    """One of Pillow's codecs. feature: Pillow's name for it; library: for its version."""

    name: str
    format: str
    feature: str
    library: str
    options: dict
    qualities: tuple[int, ...]
    setting: str

    @property
    def description(self) -> str:
        version = features.version(self.library)
        return f"Pillow {pillow_version}, {self.library} {version}, {self.setting}"


_TENS = (10, 20, 30, 40, 50, 60, 70, 80, 90)
ANCHORS = {
    "jpeg": Anchor(
        "JPEG",
        "JPEG",
        "jpg",
        "libjpeg_turbo",
        {"optimize": True, "subsampling": "4:2:0"},
        (3, 5, 7, 10, 15, 20, 30, 40, 50, 60, 70, 80, 90),
        "optimised Huffman tables, 4:2:0",
    ),
    "webp": Anchor(
        "WebP", "WEBP", "webp", "webp", {"method": 6}, (1, 5, *_TENS), "lossy, method 6"
    ),
    "avif": Anchor(
        "AVIF",
        "AVIF",
        "avif",
        "avif",
        # its files depend on whether there is one thread or more
        {"speed": 4, "subsampling": "4:2:0", "max_threads": 2},
        (5, *_TENS),
        "speed 4, 4:2:0, 2 threads",
    ),
}


def anchor(name: str) -> Anchor:
    """An anchor by its name; raises FlicError where it is unknown or this Pillow lacks it."""
    if name not in ANCHORS:
        raise FlicError(f"no anchor {name!r} (there are {', '.join(ANCHORS)})")
    found = ANCHORS[name]
    if not features.check(found.feature):
        hint = ": install Pillow 11.3 or newer" if name == "avif" else ""
        raise FlicError(f"this Pillow ({pillow_version}) cannot write {found.name}{hint}")
    return found


@dataclass
class PillowCoder:
    """A codec of Pillow's, on the same pixels; gray pictures are given to it as gray."""

    anchor: Anchor

    def open(self) -> None:
        Image.init()

    def code(self, picture: Picture, quality: int | None, meter: Meter) -> Coded:
        image, out = picture.to_pil(), io.BytesIO()
        with meter.step("encode"):
            image.save(out, self.anchor.format, quality=quality, **self.anchor.options)
        with meter.step("decode"):
            pixels = np.array(Image.open(out).convert("RGB"))
        return Coded(out.getbuffer().nbytes, pixels)
