"""Models from what names them: a name, a fingerprint, a checkpoint's path."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import CheckpointError, ModelNotFoundError
from . import checkpoint
from .library import check_device, locate
from .network import FLIC
from .state_dict import build


def load_model(
    name_or_path: str | os.PathLike | None = None,
    device: str = "cpu",
    *,
    folder: Path | None = None,
) -> FLIC:
    """A model in eval mode.

    name_or_path: the name or fingerprint of a built-in model or one in the model folder, or a
    checkpoint (.safetensors, .pth, .pth.tar, .pt); default: the built-in default. device: as torch
    names it.
    folder: the model folder (default: the user's).
    Raises ModelNotFoundError, CheckpointError, DeviceError.
    """
    path = locate(name_or_path, folder)
    check_device(device)
    try:
        return load(path).to(device)
    except OSError as error:
        raise ModelNotFoundError(f"{path}: {error.strerror or error}") from error


def load(path: str | Path) -> FLIC:
    """A model in eval mode from a checkpoint of any known kind; derived buffers may be absent."""
    state, metadata = checkpoint.read(path)
    try:
        model = build(state, kind=FLIC)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    model.metadata = metadata
    return model.eval()


def convert(
    source: str | Path,
    target: str | Path,
    *,
    compact: bool = False,
    half: bool = False,
    legacy: bool = False,
    **metadata: str,
) -> FLIC:
    """Turn any known checkpoint into safetensors, or torch's own by another suffix; the model.

    compact, half: as for `save`. legacy: as for `save_torch`. metadata: added to what the source
    says of itself; both are lost in torch's files.
    """
    model = load(source)
    model = checkpoint.rounded(model) if half else model  # its metadata is copied with it
    if Path(target).suffix != ".safetensors":
        checkpoint.save_torch(model, target, legacy=legacy)
        return model
    own = ("config", "fingerprint", "format")
    kept = {key: value for key, value in model.metadata.items() if key not in own}
    checkpoint.save(model, target, compact=compact, half=half, **(kept | metadata))
    return model
