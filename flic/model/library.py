"""Which models there are: the built-in ones and those in a folder, found by name or fingerprint.

Listing reads only the headers of safetensors files and needs no torch; loading does.
"""

from __future__ import annotations

import json
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import CheckpointError, DeviceError, ModelNotFoundError

if TYPE_CHECKING:
    pass

WEIGHTS = Path(__file__).parent.parent / "weights"
"""The built-in models: NAME.safetensors, and retired.json: {fingerprint: where to get it}."""
DEFAULT = "small"
"""The built-in model that encodes where none is named."""
DEVICES = ("cpu", "cuda", "mps", "xpu", "hpu", "mtia", "xla")
"""Kinds of devices, as torch names those that it may have."""
_MAX_HEADER = 1 << 26


@dataclass(frozen=True)
class Entry:
    """A model's file and what its header says.

    fingerprint: 16 hexadecimal digits. config: fields of flic.config.Config.
    parameters: number of stored values. metadata: all of the file's, text by text.
    """

    name: str
    path: Path
    builtin: bool
    fingerprint: str
    config: dict
    parameters: int
    metadata: dict[str, str]


def default_folder() -> Path:
    """The user's model folder on this platform; it need not exist."""
    import typer

    return Path(typer.get_app_dir("flic")) / "models"


def entries(folder: Path | None = None) -> list[Entry]:
    """The built-in models, then those in `folder` (default: the user's); by name.

    Files without FLIC's metadata are left out. A folder that does not exist has no models.
    """
    found = [_entry(path, True) for path in sorted(WEIGHTS.glob("*.safetensors"))]
    folder = default_folder() if folder is None else folder
    if folder.is_dir():
        for path in sorted(folder.glob("*.safetensors")):
            try:
                found.append(_entry(path, False))
            except CheckpointError:
                continue
    return found


def find(fingerprint: str, folder: Path | None = None) -> Entry:
    """The model with this fingerprint; raises ModelNotFoundError, which says where to look."""
    for entry in entries(folder):
        if entry.fingerprint == fingerprint:
            return entry
    retired = json.loads((WEIGHTS / "retired.json").read_text())
    if fingerprint in retired:
        raise ModelNotFoundError(
            f"the file needs the retired built-in model {fingerprint}: {retired[fingerprint]}"
        )
    raise ModelNotFoundError(
        f"the file needs model {fingerprint}, which is neither built in nor in "
        f"{default_folder() if folder is None else folder}: put its .safetensors file there "
        "(`flic convert` makes one), or name it with -m"
    )


def locate(name_or_path: str | os.PathLike | None, folder: Path | None = None) -> Path:
    """The file of a model given by name, fingerprint or path; raises ModelNotFoundError."""
    if name_or_path is None:
        return WEIGHTS / f"{DEFAULT}.safetensors"  # which no other model can be called
    known = entries(folder)
    for entry in known:
        if os.fspath(name_or_path) in (entry.name, entry.fingerprint):
            return entry.path
    path = Path(name_or_path)
    if path.is_file():
        return path
    raise ModelNotFoundError(
        f"no model {os.fspath(name_or_path)!r}: neither a file, a fingerprint nor one of "
        f"{', '.join(entry.name for entry in known) or 'the built-in ones (there are none)'}"
    )


def fingerprint(path: Path) -> str | None:
    """What the header of a model's file says; None where that says nothing, or it has no header."""
    try:
        return _entry(path, False).fingerprint
    except CheckpointError:
        return None


def metadata(path: Path) -> dict[str, str]:
    """What the header of a model's file says, text by text; nothing where it has no header."""
    try:
        return _entry(path, False).metadata
    except CheckpointError:
        return {}


def check_device_name(device: str) -> None:
    """Raise DeviceError for what is no name of a device, wherever it is; needs no torch."""
    kind, colon, number = device.partition(":")
    if kind not in DEVICES or (colon and not number.isdecimal()):
        raise DeviceError(
            f"cannot use device {device!r}: want cpu, cuda, a card by its number as cuda:1, or one "
            f"of {', '.join(DEVICES[2:])}"
        )


def check_device(device: str) -> None:
    """Raise DeviceError unless torch can put tensors on this device."""
    check_device_name(device)
    if device == "cpu":
        return
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise DeviceError(f"cannot use device {device!r}: {reason}") from error


def _entry(path: Path, builtin: bool) -> Entry:
    header = read_header(path)
    metadata = header.pop("__metadata__", {})
    try:
        fingerprint, config = metadata["fingerprint"], json.loads(metadata["config"])
        parameters = sum(_count(tensor["shape"]) for tensor in header.values())
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: not a FLIC model (`flic convert` makes one)") from error
    return Entry(path.stem, path, builtin, fingerprint, config, parameters, metadata)


def is_model(path: Path) -> bool:
    """Whether a file is a model in safetensors that flic wrote."""
    try:
        metadata = read_header(path).get("__metadata__")
    except CheckpointError:
        return False
    return isinstance(metadata, dict) and metadata.get("format") == "flic"


def read_header(path: Path) -> dict:
    """The JSON header of a safetensors file: 8 bytes of length, then text."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(_MAX_HEADER, os.fstat(file.fileno()).st_size):
                raise ValueError("its header is longer than the file")
            header = json.loads(file.read(length))
    except (OSError, ValueError, struct.error) as error:
        raise CheckpointError(f"{path}: not a safetensors file ({error})") from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{path}: not a safetensors file")
    return header


def _count(shape: list[int]) -> int:
    total = 1
    for side in shape:
        total *= side
    return total
