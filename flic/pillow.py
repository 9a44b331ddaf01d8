"""A Pillow plugin: after `import flic.pillow`, Image.open and Image.save know .flic files.

    import flic.pillow
    from PIL import Image

    Image.open("photo.jpg").save("photo.flic")             # by the built-in default model
    Image.open("photo.jpg").save("photo.flic", model="checkpoint.pth.tar", step=0.5)
    image = Image.open("photo.flic")                       # mode L, LA, RGB or RGBA

Opening reads the header: size, mode, `info["icc_profile"]` and `info["exif"]`; pixels are decoded
when they are first needed, by the model whose fingerprint the file has. `verify()` checks the
file's structure and checksum without decoding.

Save takes, all optional: model (a FLIC, a name or a checkpoint's path), quality (0 to 100, for a
model that says which quantisation steps these are) or step (1/64 to 64, for any; greater for
smaller files; default: 1), icc_profile (default: the image's own; None drops it) and exif (an
Image.Exif or bytes; default: none, as Pillow's other formats have it). An orientation in `exif` is
applied to the pixels. An alpha channel that is opaque everywhere is not stored.

Errors: what is no .flic file is not identified (UnidentifiedImageError); damaged or newer files,
models that are not there and images that cannot be coded are OSError; a quality or step that cannot
be, and a quality of a model that has none, are ValueError.
"""

from __future__ import annotations

import io
import os
from typing import IO, TYPE_CHECKING

from PIL import Image, ImageFile

from .codec import cache
from .codec.rate import Rate
from .errors import FlicError, OptionError
from .format import container
from .pictures.exif import MARK

if TYPE_CHECKING:
    from .model.network import FLIC

FORMAT = "FLIC"
MIME_TYPE = "image/x-flic"
EXTENSION = ".flic"


def add_model(model: FLIC | str | os.PathLike) -> str:
    """Let Image.open decode files made with this model; gives its fingerprint.

    model: a FLIC, whose weights must not change from now on, or a checkpoint's path. Not needed for
    built-in models and those in the user's model folder.
    """
    return cache.add(model)


class FlicImageFile(ImageFile.ImageFile):
    """A .flic file, opened; decoded by `load`."""

    format = FORMAT
    format_description = "FLIC learned image codec"

    def _open(self) -> None:
        self._begin = self.fp.tell()
        if not _accept(self.fp.read(len(container.MAGIC))):
            raise SyntaxError("not a .flic file")
        self.fp.seek(self._begin)
        try:
            header = container.read_header(self.fp)
        except FlicError as error:
            raise OSError(str(error)) from error
        self._size = (header.width, header.height)
        self._mode = ("L" if header.gray else "RGB") + ("A" if header.alpha else "")
        if header.icc is not None:
            self.info["icc_profile"] = header.icc
        if header.exif is not None:
            self.info["exif"] = MARK + header.exif
        self.tile = [ImageFile._Tile("raw", (0, 0, *self._size), 0, self._mode)]

    def load(self) -> Image.core.PixelAccess | None:
        if self.tile:
            pixels = self._decode().tobytes()
            if self._exclusive_fp:
                self.fp.close()
            self.fp = io.BytesIO(pixels)
        return super().load()

    def verify(self) -> None:
        """Raise OSError unless the file is whole: structure and checksum."""
        self._unpack()
        super().verify()

    def _decode(self) -> Image.Image:
        file = self._unpack()
        try:
            image = cache.for_file(file.fingerprint).decode_picture(file).to_pil()
        except FlicError as error:
            raise OSError(str(error)) from error
        if (image.size, image.mode) != (self._size, self._mode):
            raise OSError("the file has changed since it was opened")
        return image

    def _unpack(self) -> container.Container:
        if self.fp is None:
            raise ValueError("the file is closed")
        self.fp.seek(self._begin)
        try:
            return container.unpack(self.fp.read(container.MAX_FILE + 1))
        except FlicError as error:
            raise OSError(str(error)) from error


def _accept(prefix: bytes) -> bool:
    return prefix.startswith(container.MAGIC)


def _save(image: Image.Image, file: IO[bytes], filename: str | bytes) -> None:
    options = image.encoderinfo
    plain = image.copy()  # of Pillow's own class, with the metadata to write and no other
    if plain.mode in ("1", "L", "RGB") and "transparency" in plain.info:
        plain = plain.convert("RGBA" if plain.mode == "RGB" else "LA")
    plain.info = {key: plain.info[key] for key in ("transparency",) if key in plain.info}
    icc = options.get("icc_profile", image.info.get("icc_profile"))
    if icc:
        plain.info["icc_profile"] = icc
    exif = options.get("exif")
    if exif:
        plain.info["exif"] = exif.tobytes() if isinstance(exif, Image.Exif) else exif
    try:
        rate = Rate(options.get("quality"), options.get("step"))
        data = cache.for_encoding(options.get("model")).encode(plain, rate=rate)
    except OptionError:  # a ValueError: the call is wrong, not the image
        raise
    except FlicError as error:
        raise OSError(f"cannot write this image as FLIC: {error}") from error
    file.write(data)


Image.register_open(FORMAT, FlicImageFile, _accept)
Image.register_save(FORMAT, _save)
Image.register_extension(FORMAT, EXTENSION)
Image.register_mime(FORMAT, MIME_TYPE)
