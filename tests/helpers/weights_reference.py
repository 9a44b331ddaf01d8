"""A model's file read with numpy: what csrc/codec/model_file.cpp is checked against."""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from flic.errors import CheckpointError
from flic.model import library
from flic.model.names import is_derived

_TYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """A safetensors file's float32 arrays, and its metadata; read-only, mapped where they can be.

    Raises CheckpointError for a damaged file, ValueError for other types than float32, float16 and
    bfloat16.
    """
    header = library.read_header(path)
    metadata = header.pop("__metadata__", {})
    arrays = {}
    with path.open("rb") as file:
        start = 8 + int.from_bytes(file.read(8), "little")
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    for name, entry in header.items():
        if is_derived(name):
            continue
        begin, end = entry["data_offsets"]
        kind = np.dtype(_TYPES[entry["dtype"]])
        count = int(np.prod(entry["shape"], dtype=np.int64))
        if end - begin != count * kind.itemsize or start + end > len(mapped):
            raise CheckpointError(f"{path}: {name} has not the size that it claims")
        values = np.frombuffer(mapped, kind, count, start + begin)
        if entry["dtype"] == "BF16":
            values = (values.astype(np.uint32) << 16).view(np.float32)
        arrays[name] = values.astype(np.float32, copy=False).reshape(entry["shape"])
    return arrays | _reparametrisation(arrays), metadata


def _reparametrisation(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The constants of CompressAI's NonNegativeParametrizer for GDN's parameters, which the exact
    engine reads and compact files leave out."""
    made = {}
    for name in arrays:
        module, _, parameter = name.rpartition(".")
        if module.endswith("gdn") and parameter in ("beta", "gamma"):
            at = f"{module}.{parameter}_reparam"
            least = 1e-6 if parameter == "beta" else 0.0
            made[f"{at}.pedestal"] = np.array([2.0**-36], np.float32)
            made[f"{at}.lower_bound.bound"] = np.array([(least + 2.0**-36) ** 0.5], np.float32)
    return made


def fingerprint(arrays: Mapping[str, np.ndarray]) -> str:
    """As `checkpoint.fingerprint` of the module with these weights."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        if is_derived(name):
            continue
        value = arrays[name]
        digest.update(name.encode() + b"\0")
        digest.update(np.asarray(value.shape, dtype="<i8").tobytes())
        digest.update(np.ascontiguousarray(value, "<f4"))
    return digest.hexdigest()[:16]
