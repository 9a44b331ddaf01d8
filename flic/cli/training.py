"""`flic train`: train a model on a folder of pictures."""

import signal
from dataclasses import replace
from json import loads
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperCommand

from ..config import CONFIGS
from ..errors import FlicError
from ..model import library
from . import common, interrupts

if TYPE_CHECKING:
    from ..model.network import FLIC

_GIB = 1 << 30
_QUALITY = 4
_RECIPES = ("flic", "published", "fast")


class Command(TyperCommand):
    """`train` that takes the published `--save` as well: a flag, its folder is --save_path's."""

    def parse_args(self, ctx, args: list[str]) -> list[str]:
        following = [*args[1:], "-"]
        kept = [
            arg
            for arg, after in zip(args, following, strict=True)
            if arg != "--save" or not after.startswith("-")
        ]
        return super().parse_args(ctx, kept)


def train(
    data: Annotated[
        Path,
        typer.Option(
            "-d",
            "--data",
            "--dataset",
            metavar="DIR",
            help="Folder of pictures, or of train/, test/.",
        ),
    ],
    save: Annotated[
        Path,
        typer.Option(
            "--save",
            "--save_path",
            metavar="DIR",
            help="Where the run lives; one that is there is resumed.",
        ),
    ],
    recipe: Annotated[
        str,
        typer.Option(
            metavar="flic|published|fast",
            help="flic's own; the authors' with lambda 0.01 and 100 epochs; or what gets far in "
            "hours on a CPU.",
        ),
    ] = "flic",
    epochs: Annotated[
        int | None,
        typer.Option(
            "-e", "--epochs", min=1, help="Passes over the pictures; the rate falls on plateaus."
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="In place of epochs: steps, with a cosine schedule.")
    ] = None,
    lmbda: Annotated[
        float | None, typer.Option("--lambda", min=0.0, help="Weight of the distortion.")
    ] = None,
    quality: Annotated[
        int | None,
        typer.Option(
            "-q", "--quality", min=1, max=6, help="A published lambda. Default of flic: 4."
        ),
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
        typer.Option(
            metavar="NAME|FILE|SIZES",
            help="base, small, tiny; a JSON file of a configuration's fields; or these themselves: "
            "'widths=16,48,80 heads=4,4,8 latent=192 ...'. Default: the checkpoint's, else base "
            "(fast: small).",
        ),
    ] = None,
    variable: Annotated[
        bool | None,
        typer.Option(
            "--variable/--no-variable",
            help="Train for any rate: samples draw quantisation steps, lambda follows them.",
        ),
    ] = None,
    finest: Annotated[
        float | None, typer.Option(metavar="STEP", help="The least of them. Default: 0.4.")
    ] = None,
    coarsest: Annotated[
        float | None, typer.Option(metavar="STEP", help="The greatest. Default: 2.5.")
    ] = None,
    balance: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            help="How much less a picture's gradient counts where it costs much. Default: 0.",
        ),
    ] = None,
    optimizer: Annotated[
        str | None, typer.Option(metavar="adam|muon", help="Default: adam, fast muon.")
    ] = None,
    schedule: Annotated[
        str | None,
        typer.Option(
            metavar="cosine|linear|constant",
            help="Of the rate, with --steps. Default: cosine, fast linear.",
        ),
    ] = None,
    linear_start: Annotated[
        bool | None,
        typer.Option(
            "--linear-start/--no-linear-start",
            help="First weights are a linear transform codec (fast does).",
        ),
    ] = None,
    entropy_first: Annotated[
        int | None,
        typer.Option(min=0, help="Steps of the entropy model alone before. Default: 0, fast 200."),
    ] = None,
    scale_bound: Annotated[
        float | None,
        typer.Option(min=0.0, help="Least scale of y in training. Default: 0.01, fast 0.11."),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option("--batch-size", min=1, help="Pictures a step. Default: 16, fast 4."),
    ] = None,
    crop: Annotated[
        int | None, typer.Option(min=1, help="Side of the crops. Default: 256.")
    ] = None,
    patch_size: Annotated[
        tuple[int, int] | None,
        typer.Option("--patch-size", metavar="H W", help="The same as --crop H; W must be H."),
    ] = None,
    flip: Annotated[
        bool | None, typer.Option("--flip", help="Mirror every other crop (fast does).")
    ] = None,
    by_area: Annotated[
        bool | None, typer.Option("--by-area", help="Take large pictures more often (fast does).")
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option(
            "-lr", "--learning-rate", min=0.0, help="Peak rate. Default: 1e-4, fast 1e-3."
        ),
    ] = None,
    aux_lr: Annotated[
        float, typer.Option("--aux-learning-rate", min=0.0, help="Of the quantiles.")
    ] = 1e-3,
    warmup: Annotated[
        int | None,
        typer.Option(min=0, help="Steps of warm-up, with --steps. Default: 100, fast 20."),
    ] = None,
    patience: Annotated[
        int, typer.Option(min=0, help="Validations without progress before the rate falls.")
    ] = 16,
    clip: Annotated[
        float | None,
        typer.Option(
            "--clip",
            "--clip_max_norm",
            min=0.0,
            help="Bound on the gradient; 0: none. Default: 1, fast 0.",
        ),
    ] = None,
    ema: Annotated[
        float | None,
        typer.Option(
            help="Decay of the averaged weights; 0: none. Default: 0.999, published 0, fast 0.997."
        ),
    ] = None,
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
        int | None,
        typer.Option(
            min=1,
            help="Steps between validations, with --steps (default: 1000) or the published recipe "
            "(default: 5000).",
        ),
    ] = None,
    every: Annotated[int, typer.Option(min=1, help="Steps between two checkpoints.")] = 250,
    log_every: Annotated[int, typer.Option(min=1, help="Steps a row of log.csv.")] = 50,
    minutes: Annotated[
        float | None,
        typer.Option(min=0.0, help="Stop after so many minutes; the same command goes on."),
    ] = None,
    workers: Annotated[
        int,
        typer.Option("-n", "--workers", "--num-workers", min=0, help="Threads that read pictures."),
    ] = 2,
    cache: Annotated[
        float, typer.Option(min=0.0, help="GiB of decoded pictures to keep, a process.")
    ] = 4.0,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write TensorBoard's events too.")
    ] = False,
    overwrite: common.Overwrite = False,
    cuda: common.Cuda = False,
    device: common.Device = "cpu",
    threads: common.Threads = None,
) -> None:
    """Train a model, or continue a run where it stopped.

    The folder given by --save holds last.pth.tar (to resume from), model.safetensors (the averaged
    weights, for -m), best.safetensors (those with the least validation loss), log.csv,
    validation.csv and recipe.json. Where it is no run's folder and files that no run wrote stand
    under these names, they are replaced with --overwrite only. docs/training.md says more,
    also which options of the published train.py are taken, and what differs.
    """
    from .. import training

    if recipe not in _RECIPES:
        raise FlicError(f"no recipe {recipe!r} (there are {', '.join(_RECIPES)})")
    device = common.device(device, cuda)
    library.check_device(device)
    common.set_threads(threads)
    try:
        start, resume, origin = _beginning(checkpoint)
        chosen = {
            "epochs": epochs,
            "ema": ema,
            "lmbda": _lambda(lmbda, quality, metric),
            "config": _config(config) or (origin["config"] if checkpoint else None),
            "batch": batch,
            "crop": _crop(crop, patch_size),
            "flip": flip,
            "by_area": by_area,
            "lr": lr,
            "warmup": warmup,
            "clip": clip,
            "variable": variable,
            "optimizer": optimizer,
            "schedule": schedule,
            "linear_start": linear_start,
            "entropy_first": entropy_first,
            "scale_bound": scale_bound,
            "finest": finest,
            "coarsest": coarsest,
            "balance": balance,
        }
        chosen = {name: value for name, value in chosen.items() if value is not None}
        if recipe == "published":
            chosen = _published(chosen, steps, validate_every)
        elif recipe == "fast":
            chosen = training.FAST | chosen
            if not chosen["linear_start"]:
                chosen["entropy_first"] = entropy_first or 0
        else:
            chosen.setdefault("lmbda", training.published_lambda(metric, _QUALITY))
        what = training.Recipe(
            **chosen,
            metric=metric,
            steps=steps,
            aux_lr=aux_lr,
            patience=patience,
            dtype=dtype,
            seed=seed,
            start=origin["start"],
        )
        options = training.Options(
            device=device,
            validation=validation,
            hold_out=hold_out,
            validate_every=validate_every or training.Options.validate_every,
            every=every,
            log_every=log_every,
            workers=workers,
            cache=int(cache * _GIB),
            tensorboard=tensorboard,
            overwrite=overwrite,
            minutes=minutes,
        )
        with interrupts.deferred("stopping after this step", signal.SIGTERM) as enough:
            options = replace(options, enough=enough)
            model = training.train(what, data, save, start=start, resume=resume, options=options)
    except (ValueError, OSError, FloatingPointError) as error:
        raise FlicError(str(error)) from error
    if training.leads():
        done = f"{what.epochs} epochs" if steps is None else f"{steps} steps"
        taken = library.metadata(model)["steps"]
        partly = minutes is not None or enough()
        typer.echo(f"{model}: {f'{taken} steps so far, of {done}' if partly else done}")
    if enough():
        raise typer.Exit(128 + enough.number)


def _lambda(lmbda: float | None, quality: int | None, metric: str) -> float | None:
    """The lambda that was asked for, if one was."""
    from ..training import published_lambda

    if lmbda is not None and quality is not None:
        raise ValueError("--lambda and --quality say the same thing: give one of the two")
    return lmbda if quality is None else published_lambda(metric, quality)


def _config(text: str | None) -> str | dict | None:
    """What --config stands for: a name, or a configuration's fields."""
    if text is None or text in CONFIGS:
        return text
    try:
        if "=" in text:
            pairs = (pair.split("=") for pair in text.split())
            fields = {name: [int(v) for v in value.split(",")] for name, value in pairs}
            return {k: v if k in ("widths", "heads") else v[0] for k, v in fields.items()}
        if Path(text).is_file():
            return loads(Path(text).read_text())
    except (ValueError, OSError) as error:
        raise ValueError(f"--config {text}: {error}") from error
    return text


def _crop(crop: int | None, patch_size: tuple[int, int] | None) -> int | None:
    """The side of the crops, under whichever of its two names it was given."""
    if patch_size is None:
        return crop
    if crop is not None:
        raise ValueError("--crop and --patch-size say the same thing: give one of the two")
    height, width = patch_size
    if height != width:
        raise ValueError(f"crops are square: --patch-size {height} {width} is not")
    return height


def _published(chosen: dict, steps: int | None, validate_every: int | None) -> dict:
    """The published recipe's values, with those `chosen` in place of its defaults."""
    from ..training import PUBLISHED

    if steps is not None:
        raise ValueError("the published recipe goes by epochs: --steps has another schedule")
    every = {} if validate_every is None else {"plateau_every": validate_every}
    return PUBLISHED | chosen | every


def _beginning(checkpoint: str | None) -> "tuple[FLIC | None, Path | None, dict]":
    """What --checkpoint stands for: weights to start from, or a run to continue.

    The dictionary has the recipe's `config` and `start` that follow from it.
    """
    from ..model import loading
    from ..model.checkpoint import fingerprint
    from ..training import state

    if checkpoint is None:
        return None, None, {"config": "base", "start": None}
    path = library.locate(checkpoint)
    recipe = state.recipe_of(path)
    if recipe is not None:
        return None, path, recipe
    model = loading.load_model(path)
    config = model.config.to_dict() if model.config.name == "custom" else model.config.name
    return model, None, {"config": config, "start": fingerprint(model)}
