"""Checkpoints: reading and writing them, their names and shapes, and their fingerprint."""

from __future__ import annotations

import copy
import functools
import hashlib
import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from .config import TCA_HEADS, Config, resolve
from .errors import CheckpointError
from .output import write_atomic

if TYPE_CHECKING:
    from .model import FLIC

_LEGACY = {"matrices": "_matrix", "biases": "_bias", "factors": "_factor"}
_GROWING = {
    *("_offset", "_quantized_cdf", "_cdf_length"),
    *("_indexes_table", "_prior_mean", "_prior_scale"),
}
_SHOWN = 3  # keys of each kind that an error names
# Buffers that follow from the configuration or from the parameters: a file may lack them, and they
# take no part in the fingerprint. So the constants among them (those that do not grow) are never
# loaded; the tables of update() are, but nothing in flic computes with them.
_DERIVED = re.compile(
    r"(^gaussian_conditional\.)|(\.relative_position_index$)|(\.pedestal$)|(\.bound$)"
    r"|(^entropy_bottleneck\.(_offset|_quantized_cdf|_cdf_length|target)$)"
)


def normalize(state_dict: Mapping) -> dict[str, Tensor]:
    """A state dict under its present names, out of the wrappings that training scripts add."""
    for key in ("state_dict", "network"):
        if key in state_dict and isinstance(state_dict[key], Mapping):
            state_dict = state_dict[key]
            break
    state = {}
    for name, value in state_dict.items():
        if not isinstance(value, Tensor):
            raise CheckpointError(
                f"not a state dict: {name!r} holds {type(value).__name__}; want a dict of tensors "
                "alone, or one such under 'state_dict' or 'network', where others may lie beside"
            )
        state[_present_name(str(name).removeprefix("module."))] = value
    return state


def _present_name(name: str) -> str:
    prefix, _, leaf = name.rpartition(".")
    if prefix == "entropy_bottleneck":
        for present, legacy in _LEGACY.items():
            if leaf.startswith(legacy) and leaf[len(legacy) :].isdigit():
                return f"{prefix}.{present}.{leaf[len(legacy) :]}"
    return name


def to_legacy_names(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same state dict under the names that CompressAI 1.2.4 gave the entropy bottleneck."""
    state = {}
    for name, value in state_dict.items():
        prefix, _, index = name.rpartition(".")
        prefix, _, group = prefix.rpartition(".")
        if prefix == "entropy_bottleneck" and group in _LEGACY:
            name = f"{prefix}.{_LEGACY[group]}{index}"
        state[name] = value
    return state


def _grows(name: str) -> bool:
    """Whether update() gives this buffer its size."""
    return name.rpartition(".")[2] in _GROWING


def check_keys(model: torch.nn.Module, state: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError unless `state` has exactly the model's keys and shapes."""
    own = torch.nn.Module.state_dict(model)
    missing = [name for name in own if name not in state]
    unexpected = [name for name in state if name not in own]
    misshapen = [
        f"{name} {list(state[name].shape)} for {list(value.shape)}"
        for name, value in own.items()
        if name in state and state[name].shape != value.shape and not _grows(name)
    ]
    problems = [
        f"{len(names)} {kind}: {', '.join(names[:_SHOWN])}{' ...' if len(names) > _SHOWN else ''}"
        for kind, names in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("misshapen", misshapen),
        )
        if names
    ]
    if problems:
        raise CheckpointError("not a state dict of this model: " + "; ".join(problems))


def with_derived(model: torch.nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` with the model's own constants, whatever `state` says of them, and with the tables of
    update(), empty, where it has none."""
    derived = {
        name: value[:0] if _grows(name) else value
        for name, value in torch.nn.Module.state_dict(model).items()
        if _DERIVED.search(name) and not (_grows(name) and name in state)
    }
    return {**state, **derived}


def resize_buffers(model: torch.nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give the buffers that update() fills the sizes they have in `state`."""
    for name, buffer in model.named_buffers():
        if name in state and _grows(name):
            buffer.resize_(state[name].shape)


def infer_config(state: Mapping[str, Tensor]) -> Config:
    """The configuration whose shapes a state dict (present names) has."""
    try:
        widths = tuple(state[f"g_a.{i}.conv1_1.weight"].shape[0] for i in (1, 4, 7))
        heads = tuple(
            4 * state[f"g_a.{i}.trans_block.attns.0.relative_position_bias_table"].shape[1]
            for i in (1, 4, 7)
        )
        latent = state["g_a.9.weight"].shape[0]
        lift = state["tca.TCA.lift.weight"]
        layers = [re.match(r"tca\.TCA\.layers\.(\d+)\.q1\.weight$", name) for name in state]
        if not any(layers):
            raise ValueError("it has no T-CA layers")
        return Config(
            widths=widths,
            heads=heads,
            latent=latent,
            hyper=state["h_a.3.weight"].shape[0],
            slices=latent // lift.shape[1],
            ratio=lift.shape[0] // latent,
            depth=1 + max(int(found[1]) for found in layers if found),
        )
    except KeyError as error:
        raise CheckpointError(f"not a FLIC state dict: {error.args[0]} is missing") from None
    except (ValueError, IndexError, ZeroDivisionError) as error:
        raise CheckpointError(f"not a FLIC state dict of {TCA_HEADS} T-CA heads: {error}") from None


def build(
    state: Mapping[str, Tensor],
    config: Config | dict | str | None = None,
    *,
    kind: type[FLIC] | None = None,
    strict: bool = True,
) -> FLIC:
    """A model with the weights of a state dict (present names).

    Names and shapes are compared before anything is allocated that is as large as they claim.

    Args:
        config: default: the one that the shapes give. kind: the model's class; default: FLIC.

    Raises:
        CheckpointError: no configuration has these shapes, or its model other names and shapes.
    """
    if kind is None:
        from .model import FLIC as kind
    config = infer_config(state) if config is None else resolve(config)
    if strict:
        outline = _outline(kind, config)
        check_keys(outline, with_derived(outline, state))
    model = kind(config)
    model.load_state_dict(state, strict=strict)
    return model


@functools.lru_cache(4)
def _outline(kind: type[FLIC], config: Config) -> FLIC:
    """A model of names and shapes, its parameters without memory; do not change it."""
    with torch.device("meta"):
        return kind(config)


def fingerprint(model: FLIC) -> str:
    """16 hexadecimal digits that name the weights, whatever file or naming they came in.

    SHA-256 over every parameter in the order of its name: the name, a zero byte, the shape as
    little-endian int64, the values as little-endian float32. Derived buffers take no part.
    """
    digest = hashlib.sha256()
    state = torch.nn.Module.state_dict(model)
    for name in sorted(state):
        if _DERIVED.search(name):
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


def load(path: str | Path) -> FLIC:
    """A model in eval mode from a checkpoint of any known kind; derived buffers may be absent."""
    state, metadata = read(path)
    try:
        model = build(state)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    model.metadata = metadata
    return model.eval()


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
        if not (compact and _DERIVED.search(name))
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
    from .hyperprior import GaussianConditional

    constants = GaussianConditional().state_dict(prefix="gaussian_conditional.")
    state = {name: value[:0].flatten() if _grows(name) else value for name, value in state.items()}
    return to_legacy_names(state | constants)


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
    model = rounded(model) if half else model  # its metadata is copied with it
    if Path(target).suffix != ".safetensors":
        save_torch(model, target, legacy=legacy)
        return model
    own = ("config", "fingerprint", "format")
    kept = {key: value for key, value in model.metadata.items() if key not in own}
    save(model, target, compact=compact, half=half, **(kept | metadata))
    return model
