"""`flic train`: train a model on a folder of pictures."""

from pathlib import Path
from typing import Annotated

import typer

from .. import library
from ..errors import FlicError
from . import common


def train(
    data: Annotated[
        Path, typer.Option("-d", "--data", metavar="DIR", help="Folder of training pictures.")
    ],
    save: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Where the run lives; one that is there is resumed."),
    ],
    config: Annotated[str, typer.Option(help="Configuration: base or tiny.")] = "base",
    lmbda: Annotated[
        float, typer.Option("--lambda", min=0.0, help="Weight of the distortion (MSE x 255^2).")
    ] = 0.013,
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps in all.")] = 1_000_000,
    batch: Annotated[int, typer.Option("--batch-size", min=1, help="Pictures a step.")] = 16,
    crop: Annotated[int, typer.Option(min=1, help="Side of the crops in pixels.")] = 256,
    lr: Annotated[float, typer.Option("--learning-rate", min=0.0, help="Peak rate.")] = 1e-4,
    seed: Annotated[
        int, typer.Option(min=0, max=2**20, help="Of crops, noise and first weights.")
    ] = 0,
    every: Annotated[int, typer.Option(min=1, help="Steps between two checkpoints.")] = 250,
    device: common.Device = "cpu",
    threads: common.Threads = None,
) -> None:
    """Train a model, or continue a run where it stopped.

    The folder given by --save holds last.pth.tar (to resume from), model.safetensors (the averaged
    weights, for -m), log.csv and recipe.json.
    """
    from .. import training

    library.check_device(device)
    common.set_threads(threads)
    try:
        recipe = training.Recipe(
            config=config,
            lmbda=lmbda,
            steps=steps,
            batch=batch,
            crop=crop,
            lr=lr,
            seed=seed,
        )
        model = training.train(recipe, data, save, device=device, every=every)
    except (ValueError, OSError) as error:
        raise FlicError(str(error)) from error
    typer.echo(f"{model}: {steps} steps")
