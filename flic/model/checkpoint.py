"""Checkpoints as files: reading and writing weights, and their fingerprint."""

from __future__ import annotations

import copy
import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..errors import CheckpointError
from ..output import write_atomic
from .hyperprior import GaussianConditional
from .names import is_derived
from .state_dict import grows, normalize, to_legacy_names

if TYPE_CHECKING:
    from .network import FLIC

_SHOWN = 3  # keys of each kind that an error names


def fingerprint(model: FLIC) -> str:
    """16 hexadecimal digits that name the weights, whatever file or naming they came in.

    SHA-256 over every parameter in the order of its name: the name, a zero byte, the shape as
    little-endian int64, the values as little-endian float32. Derived buffers take no part.
    """
    digest = hashlib.sha256()
    state = torch.nn.Module.state_dict(model)
    for name in sorted(state):
        if is_derived(name):
            continue
        value = state[name].detach().to("cpu", torch.float32).contiguous().numpy()
        digest.update(name.encode() + b"\0")
        digest.update(np.asarray(value.shape, dtype="<i8").tobytes())
        digest.update(value.astype("<f4").tobytes())
    return digest.hexdigest()[:16]


def read(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The state dict (present names) and metadata of a .pth, .pth.tar, .pt or .safetensors file."""
    path = Path(path)
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                return normalize({name: file.get_tensor(name) for name in file.keys()}), metadata
        except SafetensorError as error:
            raise CheckpointError(f"{path}: not a safetensors file ({error})") from None
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except Exception:
        why = _why(path)
        raise CheckpointError(f"{path}: cannot be read as a checkpoint: {why}") from None
    try:
        if not isinstance(loaded, Mapping):
            raise CheckpointError(f"holds {type(loaded).__name__}, not a state dict")
        state = normalize(loaded)
        for name, value in state.items():
            _check_stored(name, value)
        return state, {}
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None


def _why(path: Path) -> str:
    """Why torch did not load a file, and what to do where it holds more than weights."""
    try:
        foreign = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # not a file of torch's, or damaged
        foreign = []
    if foreign:
        return (
            f"beside weights it holds other objects ({', '.join(foreign[:_SHOWN])}), and loading "
            "those can run any code. Save the weights alone, torch.save(model.state_dict(), PATH), "
            "where the model is; or, only if you trust the file, take them out of it: "
            "state = torch.load(PATH, weights_only=False); state = state.get('state_dict', state); "
            "torch.save({k: v for k, v in state.items() if torch.is_tensor(v)}, NEW)"
        )
    # torch's own words are internals, or advise to load whatever it is without checks
    return "it is damaged, or not a checkpoint of torch's"


def _check_stored(name: str, value: Tensor) -> None:
    """Raise CheckpointError unless a tensor out of torch's file is what it seems.

    Such a file can hold a view of one number that claims to be gigabytes.
    """
    plain = value.layout == torch.strided and not (value.is_quantized or value.is_complex())
    if not plain or value.is_meta:
        raise CheckpointError(f"{name} is no plain tensor")
    if value.nbytes > value.untyped_storage().nbytes():
        raise CheckpointError(f"{name} stores fewer values than it claims")


def rounded(model: FLIC) -> FLIC:
    """A copy whose matrices are the nearest float16 values, in float32; its own fingerprint.

    Raises CheckpointError where one is beyond float16.
    """
    model = copy.deepcopy(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if _stored_in_half(name, parameter):
                parameter.copy_(parameter.half())
                if not bool(torch.isfinite(parameter).all()):
                    raise CheckpointError(f"{name} holds values that float16 does not")
    return model


def _stored_in_half(name: str, value: Tensor) -> bool:
    """Matrices of convolutions and linear layers: nearly all of a model, and no more."""
    return name.endswith(".weight") and value.dim() >= 2


def save(
    model: FLIC, path: str | Path, *, compact: bool = False, half: bool = False, **metadata: str
) -> None:
    """Write a model as safetensors.

    compact: leave out what follows from the rest. half: store matrices in float16; the weights of
    the file, and its fingerprint, are those of `rounded`.
    """
    from safetensors.torch import save as to_safetensors

    model = rounded(model) if half else model
    state = {
        name: value.detach().to("cpu").contiguous()
        for name, value in torch.nn.Module.state_dict(model).items()
        if not (compact and is_derived(name))
    }
    if half:
        state = {n: v.half() if _stored_in_half(n, v) else v for n, v in state.items()}
    metadata = {
        "format": "flic",
        "config": json.dumps(model.config.to_dict()),
        "fingerprint": fingerprint(model),
        **{key: str(value) for key, value in metadata.items()},
    }
    write_atomic(path, to_safetensors(state, metadata))


def save_torch(model: FLIC, path: str | Path, *, legacy: bool = False) -> None:
    """Write a model's state dict as torch's own file, for other programs.

    The file holds {"state_dict": ...}; with `legacy`, as the published files do, the state dict
    alone, under CompressAI 1.2.4's names and without the tables that update() makes.
    """
    state = torch.nn.Module.state_dict(model)
    out = io.BytesIO()
    torch.save(_as_published(state) if legacy else {"state_dict": state}, out)
    write_atomic(path, out.getvalue())


def _as_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict with the names, sizes and constants of the published files."""
    constants = GaussianConditional().state_dict(prefix="gaussian_conditional.")
    state = {name: value[:0].flatten() if grows(name) else value for name, value in state.items()}
    return to_legacy_names(state | constants)
