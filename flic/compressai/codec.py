"""FLIC as one of the codecs that CompressAI's `bench` and `find_close` compare."""

from __future__ import annotations

import functools
import time

import numpy as np
from compressai.utils.bench.codecs import JPEG

from ..codec.codec import Codec
from ..codec.rate import Rate
from ..errors import FlicError
from ..model.loading import load_model
from ..pictures import images
from . import ARCHITECTURES, qualities, variable


class Flic(JPEG):
    """FLIC's whole files on the scale of qualities from 0 to 100.

    They are the qualities of the architecture's model of any rate. Where there is none, the scale
    is shared evenly among its models of one rate: of three, the first serves 0 to 33.
    `find_close` knows scales by class, hence JPEG's as the base; nothing else of it is used.
    """

    _description = "FLIC, whole files"

    @property
    def name(self) -> str:
        return "FLIC"

    @classmethod
    def setup_args(cls, parser) -> None:
        parser.add_argument(
            "--architecture",
            choices=ARCHITECTURES,
            default="flic-small",
            help="models of this architecture (default: %(default)s)",
        )

    def _set_args(self, args):
        self.variable = variable(args.architecture)
        self.ladder = qualities(args.architecture)
        if self.variable is None and not self.ladder:
            raise FlicError(f"there are no pretrained models of {args.architecture}")
        return args

    def _chosen(self, quality: int) -> tuple[Codec, Rate]:
        """Which model codes, and how; a quality beyond the scale is its nearer end."""
        quality = min(100, max(0, int(quality)))
        if self.variable is not None:
            return _codec(self.variable.path), Rate(quality=quality)
        return _codec(self.ladder[quality * len(self.ladder) // 101].path), Rate()

    def _run_impl(self, img, quality):
        codec, rate = self._chosen(quality)
        picture = images.read(np.asarray(self._load_img(img)))
        start = time.perf_counter()
        data = codec.encode_picture(picture, rate=rate)
        between = time.perf_counter()
        decoded = codec.decode_picture(data)
        end = time.perf_counter()
        numbers = {
            "bpp": 8 * len(data) / (picture.width * picture.height),
            "encoding_time": between - start,
            "decoding_time": end - between,
        }
        return numbers, decoded.image.convert("RGB")


@functools.cache
def _codec(path) -> Codec:
    return Codec(load_model(path))
