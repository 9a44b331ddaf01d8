"""`flic train`: train a model on a folder of pictures."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .. import library
from ..errors import FlicError
from . import common

if TYPE_CHECKING:
    from ..model import FLIC

_GIB = 1 << 30
_QUALITY = 4


def train(
    data: Annotated[
        Path,
        typer.Option(
            "-d", "--data", metavar="DIR", help="Folder of pictures, or of train/, test/."
        ),
    ],
    save: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Where the run lives; one that is there is resumed."),
    ],
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes over the pictures (published schedule).")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="In place of epochs: steps, with a cosine schedule.")
    ] = None,
    lmbda: Annotated[
        float | None, typer.Option("--lambda", min=0.0, help="Weight of the distortion.")
    ] = None,
    quality: Annotated[
        int | None,
        typer.Option("-q", "--quality", min=1, max=6, help="A published lambda. Default: 4."),
    ] = None,
    metric: Annotated[str, typer.Option(help="Distortion: mse or ms-ssim.")] = "mse",
    checkpoint: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE", help="Weights to start from, or another run's last.pth.tar."
        ),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(help="Configuration: base or tiny. Default: the checkpoint's, or base."),
    ] = None,
    batch: Annotated[int, typer.Option("--batch-size", min=1, help="Pictures a step.")] = 16,
    crop: Annotated[int, typer.Option(min=1, help="Side of the crops in pixels.")] = 256,
    flip: Annotated[bool, typer.Option("--flip", help="Mirror every other crop.")] = False,
    by_area: Annotated[
        bool, typer.Option("--by-area", help="Take large pictures more often.")
    ] = False,
    lr: Annotated[float, typer.Option("--learning-rate", min=0.0, help="Peak rate.")] = 1e-4,
    aux_lr: Annotated[
        float, typer.Option("--aux-learning-rate", min=0.0, help="Of the quantiles.")
    ] = 1e-3,
    warmup: Annotated[int, typer.Option(min=0, help="Steps of warm-up, with --steps.")] = 100,
    patience: Annotated[
        int, typer.Option(min=0, help="Epochs without progress before the rate falls.")
    ] = 16,
    clip: Annotated[float, typer.Option(min=0.0, help="Bound on the gradient; 0: none.")] = 1.0,
    ema: Annotated[float, typer.Option(help="Decay of the averaged weights; 0: none.")] = 0.999,
    dtype: Annotated[str, typer.Option(help="Of g_a and g_s: float32 or bfloat16.")] = "float32",
    seed: Annotated[int, typer.Option(help="Of crops, noise and first weights.")] = 0,
    validation: Annotated[
        Path | None,
        typer.Option("--validation", metavar="DIR", help="Validation pictures, in place of some."),
    ] = None,
    hold_out: Annotated[
        int | None,
        typer.Option(min=0, help="Pictures held out to validate. Default: 5 %, at most 24."),
    ] = None,
    validate_every: Annotated[
        int, typer.Option(min=1, help="Steps between validations, with --steps.")
    ] = 1000,
    every: Annotated[int, typer.Option(min=1, help="Steps between two checkpoints.")] = 250,
    log_every: Annotated[int, typer.Option(min=1, help="Steps a row of log.csv.")] = 50,
    workers: Annotated[int, typer.Option(min=0, help="Threads that read pictures.")] = 2,
    cache: Annotated[
        float, typer.Option(min=0.0, help="GiB of decoded pictures to keep, a process.")
    ] = 4.0,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write TensorBoard's events too.")
    ] = False,
    cuda: Annotated[bool, typer.Option("--cuda", help="The same as --device cuda.")] = False,
    device: common.Device = "cpu",
    threads: common.Threads = None,
) -> None:
    """Train a model, or continue a run where it stopped.

    The folder given by --save holds last.pth.tar (to resume from), model.safetensors (the averaged
    weights, for -m), best.safetensors (those with the least validation loss), log.csv,
    validation.csv and recipe.json. docs/training.md says more.
    """
    from .. import training

    device = "cuda" if cuda else device
    library.check_device(device)
    common.set_threads(threads)
    try:
        start, resume, origin = _beginning(checkpoint)
        recipe = training.Recipe(
            config=config or origin["config"],
            metric=metric,
            lmbda=_lambda(lmbda, quality, metric),
            epochs=epochs,
            steps=steps,
            batch=batch,
            crop=crop,
            flip=flip,
            by_area=by_area,
            lr=lr,
            aux_lr=aux_lr,
            warmup=warmup,
            patience=patience,
            clip=clip,
            ema=ema,
            dtype=dtype,
            seed=seed,
            start=origin["start"],
        )
        options = training.Options(
            device=device,
            validation=validation,
            hold_out=hold_out,
            validate_every=validate_every,
            every=every,
            log_every=log_every,
            workers=workers,
            cache=int(cache * _GIB),
            tensorboard=tensorboard,
        )
        model = training.train(recipe, data, save, start=start, resume=resume, options=options)
    except (ValueError, OSError, FloatingPointError) as error:
        raise FlicError(str(error)) from error
    if training.leads():
        typer.echo(f"{model}: {steps or epochs} {'steps' if steps else 'epochs'}")


def _lambda(lmbda: float | None, quality: int | None, metric: str) -> float:
    from ..training import published_lambda

    if lmbda is not None and quality is not None:
        raise ValueError("--lambda and --quality say the same thing: give one of the two")
    return published_lambda(metric, quality or _QUALITY) if lmbda is None else lmbda


def _beginning(checkpoint: str | None) -> "tuple[FLIC | None, Path | None, dict]":
    """What --checkpoint stands for: weights to start from, or a run to continue.

    The dictionary has the recipe's `config` and `start` that follow from it.
    """
    from ..checkpoint import fingerprint
    from ..training import state

    if checkpoint is None:
        return None, None, {"config": "base", "start": None}
    path = library.locate(checkpoint)
    recipe = state.recipe_of(path)
    if recipe is not None:
        return None, path, recipe
    model = library.load_model(path)
    config = model.config.to_dict() if model.config.name == "custom" else model.config.name
    return model, None, {"config": config, "start": fingerprint(model)}
