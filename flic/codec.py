"""Pictures to .flic files and back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from . import checkpoint, container, entropy, images, library
from .container import Container
from .errors import CheckpointError, FormatError, ModelMismatchError, PictureError
from .images import Picture

if TYPE_CHECKING:
    from PIL import Image

    from .model import FLIC


class Codec:
    """A model, ready to code pictures; its weights must not change while it is in use."""

    def __init__(self, model: FLIC) -> None:
        self.model = model
        self.fingerprint = bytes.fromhex(checkpoint.fingerprint(model))

    def encode(self, image: Any, *, strip: bool = False) -> bytes:
        """A .flic file of anything that `flic.images.read` takes."""
        return self.encode_picture(images.read(image, strip=strip))

    @torch.no_grad()
    def encode_picture(self, picture: Picture) -> bytes:
        """A .flic file of a picture."""
        try:
            latents = self.model.analyze(self._input(picture.pixels))
            (stream,) = entropy.encode(self.model, latents)
        except ValueError as error:  # NaN or infinity on the way
            raise CheckpointError(f"the model cannot code this picture: {error}") from error
        return container.pack(
            Container(
                width=picture.width,
                height=picture.height,
                fingerprint=self.fingerprint,
                stream=stream,
                gray=picture.gray,
                alpha=None if picture.alpha is None else images.alpha_to_png(picture.alpha),
                icc=picture.icc,
                exif=picture.exif,
            )
        )

    def decode(self, data: bytes) -> Image.Image:
        """The picture of a .flic file, with alpha, profile and EXIF."""
        return self.decode_picture(data).to_pil()

    @torch.no_grad()
    def decode_picture(self, data: bytes | Container) -> Picture:
        """The picture of a .flic file; raises FlicError rather than give a wrong one."""
        file = data if isinstance(data, Container) else container.unpack(data)
        alpha = self._alpha(file)
        y_hat = self._decode_latents(file)
        x_hat = self.model.synthesize(y_hat, (file.height, file.width))[0].float()
        if file.gray:
            x_hat = x_hat.mean(0, keepdim=True).expand(3, -1, -1)
        pixels = (x_hat.permute(1, 2, 0) * 255).round().to(torch.uint8)
        return Picture(pixels.cpu().contiguous().numpy(), file.gray, alpha, file.icc, file.exif)

    @torch.no_grad()
    def verify(self, data: bytes | Container) -> None:
        """Decode all but the picture itself and compare checksums; raises FlicError."""
        file = data if isinstance(data, Container) else container.unpack(data)
        self._alpha(file)
        self._decode_latents(file)

    def _input(self, pixels: np.ndarray) -> torch.Tensor:
        """uint8 [H, W, 3] -> [1, 3, H, W] in [0, 1] on the model's device."""
        parameter = next(self.model.parameters())
        x = torch.from_numpy(pixels).to(parameter.device).permute(2, 0, 1)[None]
        return x.to(parameter.dtype) / 255

    def _alpha(self, file: Container) -> np.ndarray | None:
        if file.alpha is None:
            return None
        try:
            return images.alpha_from_png(file.alpha, file.width, file.height)
        except PictureError as error:
            raise FormatError(f"the file is damaged: {error}") from error

    def _decode_latents(self, file: Container) -> torch.Tensor:
        if file.fingerprint != self.fingerprint:
            raise ModelMismatchError(
                f"the file was made with model {file.fingerprint.hex()}, "
                f"the model given is {self.fingerprint.hex()}"
            )
        _, y_hat = entropy.decode(self.model, [file.stream], (file.height, file.width))
        return y_hat


def encode(
    image: Any, model: FLIC | str | os.PathLike | None = None, *, strip: bool = False
) -> bytes:
    """Code a picture as a .flic file.

    image: a path, a file's bytes, a file object, a PIL image, a uint8 array [H, W, 3] or a float
    tensor [3, H, W] in [0, 1]. model: a FLIC, a name or a checkpoint's path; default: the built-in
    default. strip: drop ICC profile and EXIF.
    Raises FlicError: PictureError, ModelNotFoundError, CheckpointError.
    """
    picture = images.read(image, strip=strip)
    return Codec(_model(model)).encode_picture(picture)


def decode(
    data: bytes | str | os.PathLike, model: FLIC | str | os.PathLike | None = None
) -> Image.Image:
    """The picture of a .flic file, as a PIL image (L, LA, RGB or RGBA).

    data: the file's bytes, or its path. model: as for `encode`; default: the one with the file's
    fingerprint, among the built-in models and those in the user's model folder. The image's `info`
    has the ICC profile and EXIF.
    Raises FlicError: FormatError, ModelNotFoundError, ModelMismatchError, StreamMismatch.
    """
    if isinstance(data, (str, os.PathLike)):
        try:
            data = Path(data).read_bytes()
        except OSError as error:
            raise FormatError(f"{os.fspath(data)}: {error.strerror or error}") from error
    file = container.unpack(data)
    if model is None:
        model = library.find(file.fingerprint.hex()).path
    return Codec(_model(model)).decode_picture(file).to_pil()


def _model(model: FLIC | str | os.PathLike | None) -> FLIC:
    if isinstance(model, torch.nn.Module):
        return model
    return library.load_model(model)
