"""State dicts: their present and legacy names, the shapes that they tell, a model made of one."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..config import TCA_HEADS, Config, resolve
from ..errors import CheckpointError
from .names import is_derived

if TYPE_CHECKING:
    from .network import FLIC

_LEGACY = {"matrices": "_matrix", "biases": "_bias", "factors": "_factor"}
_GROWING = {
    *("_offset", "_quantized_cdf", "_cdf_length"),
    *("_indexes_table", "_prior_mean", "_prior_scale"),
}
_SHOWN = 3  # keys of each kind that an error names


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


def grows(name: str) -> bool:
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
        if name in state and state[name].shape != value.shape and not grows(name)
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
        name: value[:0] if grows(name) else value
        for name, value in torch.nn.Module.state_dict(model).items()
        if is_derived(name) and not (grows(name) and name in state)
    }
    return {**state, **derived}


def resize_buffers(model: torch.nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give the buffers that update() fills the sizes they have in `state`."""
    for name, buffer in model.named_buffers():
        if name in state and grows(name):
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
    kind: type[FLIC],
    strict: bool = True,
) -> FLIC:
    """A model with the weights of a state dict (present names).

    Names and shapes are compared before anything is allocated that is as large as they claim.

    Args:
        config: default: the one that the shapes give. kind: the model's class.

    Raises:
        CheckpointError: no configuration has these shapes, or its model other names and shapes.
    """
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
