"""FLIC for CompressAI's tools: registered where they look, so that they run unchanged.

    python -m flic.compressai TOOL ARGUMENTS...

TOOL: eval_model, update_model, plot, bench, find_close, codec or train, as of CompressAI 1.2.8, or
the path of a script of your own in their manner. In Python, `register()` before they are imported.

What is registered: the architectures "flic" (the published configuration; for a checkpoint,
whatever its shapes say), "flic-small" and "flic-tiny", in compressai.registry.MODELS,
compressai.zoo.models and image_models, and compressai.zoo.image.model_architectures; and the codec
"flic" for bench and find_close (`flic.compressai.codec`).
"""

from __future__ import annotations

from functools import partial

from ..codec.rate import Rate
from ..config import CONFIGS
from ..errors import ModelNotFoundError
from ..model.library import Entry, default_folder, entries

ARCHITECTURES = {"flic" if config == "base" else f"flic-{config}": config for config in CONFIGS}
"""Names for CompressAI's tools, and the configurations that they stand for."""
LADDER = 8
"""How many qualities a model of any rate has in the zoo, as most of CompressAI's own have."""
_METRICS = ("mse", "ms-ssim")


class NoSuchModelError(ModelNotFoundError, RuntimeError):
    """No pretrained model of that quality; RuntimeError is what CompressAI's zoo raises."""


def register() -> None:
    """Make FLIC known to CompressAI's registry and zoo; doing it again changes nothing."""
    from compressai import zoo
    from compressai.registry import register_model
    from compressai.zoo.image import model_architectures

    from ..model.network import FLIC

    for name in ARCHITECTURES:
        register_model(name)(FLIC)
        model_architectures[name] = FLIC
        zoo.image_models[name] = zoo.models[name] = partial(entrypoint, name)


def entrypoint(
    architecture: str,
    quality: int,
    metric: str = "mse",
    pretrained: bool = False,
    progress: bool = True,
):
    """A FLIC as a function of CompressAI's zoo gives models.

    quality: 1 for the smallest files; without `pretrained` it plays no part. Where there is a model
    of any rate (`variable`), 1 to LADDER are its qualities 0 to 100 in even steps, and what is
    given codes at their quantisation steps. metric: "mse" or "ms-ssim". progress: nothing is
    downloaded, so there is none.
    Raises ValueError as the zoo does; NoSuchModelError where there is no such pretrained model.
    """
    from ..model.loading import load_model
    from ..model.network import FLIC

    if metric not in _METRICS:
        raise ValueError(f'Invalid metric "{metric}"')
    if not pretrained:
        return FLIC(ARCHITECTURES[architecture])
    entry = variable(architecture, metric)
    if entry is not None:
        return _at(entry, quality)
    ladder = qualities(architecture, metric)
    if not 1 <= quality <= len(ladder):
        raise NoSuchModelError(
            f"{architecture} has {len(ladder)} pretrained models for {metric}, quality {quality} "
            f"is not one of them: they are the built-in ones of its configuration that say their "
            f"lambda, or where there are none those in {default_folder()}, by rising lambda"
        )
    return load_model(ladder[quality - 1].path)


def _at(entry: Entry, quality: int):
    """A model of any rate at a quality from 1 to LADDER."""
    from ..model.loading import load_model
    from .stepped import AtStep

    if not 1 <= quality <= LADDER:
        raise NoSuchModelError(
            f"{entry.name} has qualities 1 to {LADDER} here, quality {quality} is not one of them"
        )
    chosen = Rate(quality=100 * (quality - 1) / (LADDER - 1))
    return AtStep.of(load_model(entry.path), chosen.fixed(entry.metadata))


def qualities(architecture: str, metric: str = "mse") -> list[Entry]:
    """The models of one rate that qualities 1, 2, ... stand for, by rising lambda.

    Built-in models of the architecture's configuration; where there are none, those of the user's
    model folder. Models whose file does not say its lambda have no place in the order.
    """
    fitting = [e for e in _fitting(architecture, metric) if "lambda" in e.metadata]
    return sorted(fitting, key=lambda entry: (float(entry.metadata["lambda"]), entry.name))


def variable(architecture: str, metric: str = "mse") -> Entry | None:
    """The model of any rate that serves every quality in place of `qualities`, if there is one.

    One that says what steps its qualities are; the first by name, of the models as `qualities` has
    them.
    """
    fitting = [e for e in _fitting(architecture, metric) if "quality_steps" in e.metadata]
    return min(fitting, key=lambda entry: entry.name, default=None)


def _fitting(architecture: str, metric: str) -> list[Entry]:
    """Models that say what quality they are, or have: built-in ones, else the user's."""
    config = CONFIGS[ARCHITECTURES[architecture]].to_dict()
    fitting = [
        entry
        for entry in entries()
        if entry.config == config
        and entry.metadata.get("metric", "mse") == metric
        and entry.metadata.keys() & {"lambda", "quality_steps"}
    ]
    return [entry for entry in fitting if entry.builtin] or fitting
