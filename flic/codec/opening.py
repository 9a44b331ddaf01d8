"""The codec of a model's file: without torch where that can be."""

from __future__ import annotations

import os
from pathlib import Path

from ..coding.native_coder import NativeCoder
from ..config import check_dtype
from ..errors import CheckpointError, ModelNotFoundError, missing_extra
from ..model import library
from .codec import Codec


def open_codec(
    model: str | os.PathLike | None = None,
    dtype: str = "float32",
    device: str = "cpu",
    folder: Path | None = None,
    gradients: bool = False,
) -> Codec:
    """A model, ready to code pictures.

    model, folder: as for `flic.load_model`. dtype: in which g_a and g_s compute. gradients: whether
    an effort will be asked for, which takes torch.

    On a CPU a safetensors file that flic wrote needs no torch; everything else is loaded as a FLIC.
    Raises what `flic.load_model` raises, and OptionError.
    """
    check_dtype(dtype)
    path = library.locate(model, folder)
    if device == "cpu" and not gradients and path.suffix == ".safetensors":
        if not os.access(path, os.R_OK):
            raise ModelNotFoundError(f"{path}: it cannot be read")
        try:
            return Codec(NativeCoder(path, library.metadata(path)), dtype)
        except CheckpointError:
            pass  # another file, or a wrong one: torch's loader says what is wrong with it
    try:
        from ..model import loading
    except ImportError as error:
        raise missing_extra(error) from error
    return Codec(loading.load_model(path, device), dtype)
