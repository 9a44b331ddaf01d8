"""The C library's codec (csrc/include/flic.h) with Pillow's images: coding on a CPU."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from PIL import Image

from flic_kernels import interface, native

from .. import errors
from ..config import Config
from ..format import container
from ..format.container import Container
from ..format.tile_grid import Box
from . import limits
from .request import Progress, Request

_ERRORS = {
    "BAD_ARGUMENT": errors.OptionError,
    "OUT_OF_MEMORY": MemoryError,
    "STOPPED": KeyboardInterrupt,
    "MEMORY_LIMIT": errors.DeviceError,
    "BAD_MODEL": errors.CheckpointError,
    "BAD_FILE": errors.FormatError,
    "TRUNCATED": errors.TruncatedError,
    "UNSUPPORTED_VERSION": errors.UnsupportedVersionError,
    "OTHER_MODEL": errors.ModelMismatchError,
    "MISMATCH": errors.StreamMismatch,
}
_TILE_NONE = -1
_SIZES = ("latent", "hyper", "slices", "ratio", "depth")
_Progress = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_int32, ctypes.c_int32
)  # FlicProgress

_stop = ctypes.c_int32(0)  # of the whole process, as threads are


@contextmanager
def stopped() -> Iterator[None]:
    """Inside a `with` block whatever any thread computes here ends within milliseconds, with
    KeyboardInterrupt."""
    _stop.value = 1
    try:
        yield
    finally:
        _stop.value = 0


class NativeCoder:
    """A model's file, opened; several threads may code with it.

    path: of a safetensors file that flic wrote. metadata: of the model. Raises CheckpointError for
    any other file, and where the weights do not fit their configuration.

    fingerprint: 16 hexadecimal digits.
    """

    def __init__(self, path: str | os.PathLike, metadata: Mapping[str, str]) -> None:
        self.metadata = metadata
        self._library = native.library()
        self._model = ctypes.c_void_p()
        self._call("model_open", os.fsencode(path), _Options(), out=self._model)
        native.free_with(self, self._library.flic_model_close, self._model)
        info = interface.structure("FlicModelInfo")()
        self._call("model_info", self._model, ctypes.byref(info))
        self.fingerprint = bytes(info.fingerprint).hex()
        self.config = Config(
            tuple(info.widths), tuple(info.heads), *(getattr(info, name) for name in _SIZES)
        )

    def begin(self, asked: Request) -> NativeEncoding:
        """A picture in the course of being coded; as `ArrayCoder.begin`, but nothing is refined."""
        if asked.iterations:
            raise errors.OptionError("effort takes gradients: a model that flic.load_model loads")
        return NativeEncoding(self, asked)

    def image(self, file: Container, region: Box, dtype: str, progress: Progress) -> Image.Image:
        """A region of a file's picture; as `ArrayCoder.image`."""
        out = _Buffer(region.width, region.height, 1 if file.gray else 3)
        box = interface.structure("FlicRegion")(
            region.left, region.top, region.width, region.height
        )
        data = container.pack(file) if file.data is None else file.data
        self._call(
            "decode", self._model, data, len(data), ctypes.byref(box), _Options(dtype, progress),
            ctypes.byref(out.structure),
        )  # fmt: skip
        return out.image()

    def verify(self, file: Container) -> None:
        """Decode all but the picture itself; raises as `image`."""
        data = container.pack(file) if file.data is None else file.data
        self._call("verify", self._model, data, len(data), _Options())

    def _call(self, name: str, *arguments, out: ctypes.c_void_p | None = None) -> None:
        """Calls a function of flic.h; raises what its status stands for."""
        options = next((each for each in arguments if isinstance(each, _Options)), None)
        given = [each.pointer if isinstance(each, _Options) else each for each in arguments]
        if out is not None:
            given.append(ctypes.byref(out))
        status = getattr(self._library, f"flic_{name}")(*given)
        if not status:
            return
        if options is not None and options.failure is not None:
            raise options.failure
        kinds = {value: name for name, value in interface.statuses().items()}
        text = self._library.flic_error().decode()
        if kinds[status] == "NOT_FINITE":
            raise errors.CheckpointError(f"the model cannot code this picture: {text}")
        raise _ERRORS[kinds[status]](text)


class NativeEncoding:
    """As `ArrayEncoding`."""

    def __init__(self, coder: NativeCoder, asked: Request) -> None:
        self._coder, self._dtype = coder, asked.dtype
        self._size = *asked.image.size, len(asked.image.getbands())
        self._samples = asked.image.tobytes()  # outlives the next
        image = _described(ctypes.cast(self._samples, ctypes.c_void_p).value, *self._size)
        self._encoder = ctypes.c_void_p()
        coder._call(
            "encoder_new", coder._model, ctypes.byref(image), asked.tile or _TILE_NONE,
            asked.again, out=self._encoder,
        )  # fmt: skip
        native.free_with(self, coder._library.flic_encoder_free, self._encoder)

    def file(self, frame: Container, step: float, progress: Progress) -> bytes:
        section = interface.structure("FlicSection")
        kept = [part and ctypes.create_string_buffer(part, len(part)) for part in
                container.packed_sections(frame)]  # fmt: skip
        sections = interface.structure("FlicSections")(
            *(section(ctypes.addressof(part), len(part)) if part else section() for part in kept)
        )
        size = ctypes.c_size_t()
        call = self._coder._call
        call(
            "encoder_code", self._encoder, step, ctypes.byref(sections),
            _Options(self._dtype, progress), ctypes.byref(size),
        )  # fmt: skip
        data = ctypes.create_string_buffer(size.value)
        call("encoder_file", self._encoder, data, size.value)
        return data.raw

    def image(self) -> Image.Image:
        out = _Buffer(*self._size)
        self._coder._call(
            "encoder_picture", self._encoder, _Options(self._dtype), ctypes.byref(out.structure)
        )
        return out.image()


class _Options:
    """FlicOptions of a call. failure: what `progress` raised."""

    def __init__(self, dtype: str = "float32", progress: Progress | None = None) -> None:
        self.failure: BaseException | None = None
        self._progress = progress
        self._told = _Progress(self._tell)  # as long as the call lasts
        allowed = limits.allowance()
        self._structure = interface.structure("FlicOptions")(
            threads=min(native.threads(), native.MAX_THREADS),
            bfloat16=dtype == "bfloat16",
            memory_limit=allowed or 0,
            progress=ctypes.cast(self._told, ctypes.c_void_p) if progress else None,
            stop=ctypes.addressof(_stop),
        )

    @property
    def pointer(self) -> ctypes.c_void_p:
        return ctypes.byref(self._structure)

    def _tell(self, user: int | None, done: int, parts: int) -> int:
        try:
            self._progress(done, parts)
        except BaseException as error:  # goes on in the caller, past the library
            self.failure = error
            return 1
        return 0


class _Buffer:
    """Where a picture's samples come. structure: FlicImage."""

    def __init__(self, width: int, height: int, channels: int) -> None:
        self._samples = (ctypes.c_uint8 * (width * height * channels))()
        self._size, self._mode = (width, height), "L" if channels == 1 else "RGB"
        self.structure = _described(ctypes.addressof(self._samples), width, height, channels)

    def image(self) -> Image.Image:
        """A copy of the samples."""
        return Image.frombytes(self._mode, self._size, self._samples)


def _described(samples: int, width: int, height: int, channels: int) -> ctypes.Structure:
    """FlicImage of samples that lie at an address."""
    return interface.structure("FlicImage")(
        pixels=samples, width=width, height=height, channels=channels
    )
