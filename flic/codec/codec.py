"""Pictures to .flic files and back."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from flic_kernels import native

from .. import config
from ..coding.native_coder import NativeCoder
from ..coding.request import Progress, Request, never, silent
from ..errors import CallError, FormatError, ModelMismatchError, OptionError, PictureError
from ..format import container
from ..format.container import Container
from ..format.tile_grid import Box, check_crop, choose
from ..pictures import images, metrics
from ..pictures.images import Picture
from .lifetime import ends_before_exit
from .rate import Rate, iterations_of, search

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from ..coding.array_coder import ArrayCoder
    from ..model.network import FLIC

Crop = tuple[int, int, int, int]
"""x, y, width and height of a region, in pixels."""


class Encoded(NamedTuple):
    """A .flic file as its encoder knows it.

    step: the quantisation step. reached: what the file has of the rate's target (bits a pixel,
    bytes, or dB); None where there was none.
    """

    data: bytes
    step: float
    reached: float | None


class Codec:
    """A model, ready to code pictures; its weights must not change while it is in use.

    model: a FLIC, or what codes without torch (`codec.opening.open_codec`).
    dtype: in which g_a and g_s compute, torch.float32 or torch.bfloat16, or their names. What feeds
        the coding tables is float32 in any case, so files open whatever was chosen.
    """

    def __init__(self, model: FLIC | NativeCoder, dtype: torch.dtype | str = "float32") -> None:
        self.coder = _coder(model)
        self.model = model
        self.dtype = str(dtype).removeprefix("torch.")
        if self.dtype not in config.DTYPES:
            known = " or ".join(f"torch.{name}" for name in config.DTYPES)
            raise OptionError(f"dtype must be {known}, not {dtype!r}")
        self.fingerprint = bytes.fromhex(self.coder.fingerprint)

    def encode(
        self, image: Any, *, rate: Rate | None = None, strip: bool = False, **options
    ) -> bytes:
        """A .flic file of anything that `flic.images.read` takes; `rate` and options as for
        `encode_at`, strip as for `flic.encode`."""
        return self.encode_picture(images.read(image, strip=strip), rate=rate, **options)

    def encode_picture(self, picture: Picture, *, rate: Rate | None = None, **options) -> bytes:
        """A .flic file of a picture; `rate` and options as for `encode_at`."""
        return self.encode_at(rate or Rate(), picture, **options).data

    @ends_before_exit
    @native.interruptible()
    def encode_at(
        self,
        rate: Rate,
        picture: Picture,
        *,
        tile: int | str = "auto",
        effort: int = 0,
        progress: Progress = silent,
        enough: Callable[[], bool] = never,
    ) -> Encoded:
        """A .flic file of a picture, with what came of the rate that was asked for.

        rate: a target is approached by coding again and again what was analysed once; where no step
        reaches it, the nearest is taken, and the caller is to look at `reached`. tile, effort: as
        for `flic.encode`; an effort takes a FLIC. enough: asked before each of an effort's
        iterations whether to end with what they have reached. Raises as `flic.encode`.
        """
        iterations = iterations_of(effort)
        step = rate.fixed(self.coder.metadata)
        side = choose((picture.height, picture.width), tile)
        frame = Container(
            width=picture.width,
            height=picture.height,
            fingerprint=self.fingerprint,
            streams=(),
            gray=picture.gray,
            alpha=None if picture.alpha is None else images.alpha_to_png(picture.alpha),
            icc=picture.icc,
            exif=picture.exif,
            tile=side,
        )
        again = rate.target is not None
        encoding = self.coder.begin(
            Request(picture.image, side, self.dtype, again, iterations, enough)
        )
        if not again:
            return Encoded(encoding.file(frame, step, progress), step, None)

        def trial(step: float) -> tuple[float, bytes]:
            """What the file of a step has of the rate's target, and the file."""
            data = encoding.file(frame, step, progress)
            if rate.target == "psnr":
                return metrics.psnr(picture.image, encoding.image()), data
            if rate.target == "bpp":
                return metrics.bits_per_pixel(len(data), frame.width, frame.height), data
            return len(data), data

        step, reached, data = search(rate, trial)
        return Encoded(data, step, reached)

    def decode(self, data: Any, *, crop: Crop | None = None) -> Image.Image:
        """The picture of a .flic file, with alpha and metadata; arguments as for `flic.decode`."""
        return self.decode_picture(data, crop=crop).to_pil()

    @ends_before_exit
    @native.interruptible()
    def decode_picture(
        self,
        data: Any,
        *,
        crop: Crop | None = None,
        progress: Progress = silent,
    ) -> Picture:
        """The picture of a .flic file; raises FlicError rather than give a wrong one.

        data: as for `flic.decode`, or what `container.unpack` gives. crop: as for `flic.decode`.
        """
        file = self._file(data)
        whole = Box(0, 0, file.height, file.width)
        region = whole if crop is None else check_crop(crop, (file.height, file.width))
        alpha = self._alpha(file)
        if alpha is not None:
            alpha = alpha.crop((region.left, region.top, region.right, region.bottom))
        image = self.coder.image(file, region, self.dtype, progress)
        return Picture(image, alpha, file.icc, file.exif)

    @ends_before_exit
    @native.interruptible()
    def verify(self, data: Any) -> None:
        """Decode all but the picture itself and compare checksums; raises FlicError.

        data: as for `decode_picture`.
        """
        file = self._file(data)
        self._alpha(file)
        self.coder.verify(file)

    def _file(self, data: Any) -> Container:
        """A file's fields, once it is known that this model made it."""
        file = data if isinstance(data, Container) else container.unpack(container.read(data))
        if file.fingerprint != self.fingerprint:
            raise ModelMismatchError(
                f"the file was made with model {file.fingerprint.hex()}, "
                f"the model given is {self.fingerprint.hex()}"
            )
        return file

    def _alpha(self, file: Container) -> Image.Image | None:
        if file.alpha is None:
            return None
        try:
            return images.alpha_from_png(file.alpha, file.width, file.height)
        except PictureError as error:
            raise FormatError(f"the file is damaged: {error}") from error


def _coder(model: object) -> NativeCoder | ArrayCoder:
    """What codes for a model; a FLIC there can be only where torch has been imported."""
    if isinstance(model, NativeCoder):
        return model
    if "torch" in sys.modules:
        from ..coding.array_coder import ArrayCoder
        from ..model.network import FLIC
        from ..model.torch_network import TorchNetwork

        if isinstance(model, FLIC):
            return ArrayCoder(TorchNetwork(model))
    raise CallError(
        f"Codec takes a model, not {type(model).__name__}: flic.open_codec(NAME or FILE) makes one "
        "of a name; flic.encode and flic.decode take names, too"
    )
