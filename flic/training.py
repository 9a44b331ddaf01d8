"""Training: the published recipe's loss and optimisers, resumable to the last digit.

loss = lambda * 255^2 * MSE + bits per pixel (paper, section 4.1), Adam on the network, and a second
Adam on the quantiles of z's prior with CompressAI's auxiliary loss. Everything random in a step,
crops and noise, is a function of the seed and the step's number.
"""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn

from . import checkpoint
from .data import Crops
from .model import FLIC
from .output import write_atomic


@dataclass
class Recipe:
    """What a training run does.

    Attributes:
        config: the model's configuration, by name.
        lmbda: weight of the distortion; published for MSE: 0.0018 to 0.0483.
        steps: optimiser steps in all.
        batch, crop: pictures a step, and their side in pixels (a multiple of 128 wastes nothing).
        lr, aux_lr: peak learning rates of the network and of the quantiles.
        warmup: steps of linear warm-up; a cosine then falls to a hundredth of the peak.
        clip: bound on the gradient's norm.
        ema: decay of the averaged weights, which are what is saved as the model.
        seed: of crops, noise and initial weights.
    """

    config: str = "base"
    lmbda: float = 0.013
    steps: int = 1_000_000
    batch: int = 16
    crop: int = 256
    lr: float = 1e-4
    aux_lr: float = 1e-3
    warmup: int = 100
    clip: float = 1.0
    ema: float = 0.999
    seed: int = 0


def rate_distortion(out: dict, x: Tensor, lmbda: float) -> dict[str, Tensor]:
    """Loss, bits per pixel and mean squared error (of values in [0, 1]) of a forward pass."""
    pixels = x.shape[0] * x.shape[2] * x.shape[3]
    bpp = sum(-torch.log2(p).sum() for p in out["likelihoods"].values()) / pixels
    mse = nn.functional.mse_loss(out["x_hat"], x)
    return {"loss": lmbda * 255**2 * mse + bpp, "bpp": bpp, "mse": mse}


class Trainer:
    """One training run: model, averaged model, optimisers and the step they are at."""

    def __init__(self, recipe: Recipe, data: str | Path, device: str = "cpu"):
        self.recipe, self.device, self.step, self.skipped = recipe, torch.device(device), 0, 0
        torch.manual_seed(recipe.seed)
        self.model = FLIC(recipe.config).to(self.device).train()
        self.averaged = FLIC(recipe.config).to(self.device).eval()
        self.averaged.load_state_dict(self.model.state_dict())
        main, aux = [], []
        for name, parameter in self.model.named_parameters():
            (aux if name.endswith(".quantiles") else main).append(parameter)
        self.parameters = main
        self.optimizer = torch.optim.Adam(main, lr=recipe.lr)
        self.aux_optimizer = torch.optim.Adam(aux, lr=recipe.aux_lr)
        self.crops = Crops(data, recipe.crop, recipe.batch, recipe.seed)

    def learning_rate(self) -> float:
        """The learning rate of the coming step."""
        recipe = self.recipe
        if self.step < recipe.warmup:
            return recipe.lr * (self.step + 1) / recipe.warmup
        done = (self.step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
        return recipe.lr * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))

    def train_step(self) -> dict[str, float]:
        """One step; a step whose gradient is not finite changes nothing and is counted."""
        torch.manual_seed((self.recipe.seed << 40) + self.step)
        x = self.crops[self.step].to(self.device)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        self.optimizer.zero_grad(set_to_none=True)
        terms = rate_distortion(self.model(x), x, self.recipe.lmbda)
        terms["loss"].backward()
        norm = nn.utils.clip_grad_norm_(self.parameters, self.recipe.clip)
        if bool(torch.isfinite(norm)):
            self.optimizer.step()
            self.aux_optimizer.zero_grad(set_to_none=True)
            self.model.aux_loss().backward()
            self.aux_optimizer.step()
            self._average()
        else:
            self.skipped += 1
        self.step += 1
        values = {name: float(value.detach()) for name, value in terms.items()}
        values["psnr"] = -10 * math.log10(max(values.pop("mse"), 1e-10))
        return values

    @torch.no_grad()
    def _average(self) -> None:
        # Early on the average follows quickly, so that it forgets the initial weights.
        decay = min(self.recipe.ema, (1 + self.step) / (10 + self.step))
        ours, theirs = list(self.averaged.parameters()), list(self.model.parameters())
        torch._foreach_lerp_(ours, theirs, 1 - decay)

    def save(self, path: Path) -> None:
        """Everything that resuming needs, written to a temporary name and renamed."""
        state = {
            "state_dict": self.model.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "aux_optimizer": self.aux_optimizer.state_dict(),
            "step": self.step,
            "skipped": self.skipped,
            "recipe": asdict(self.recipe),
        }
        buffer = io.BytesIO()
        torch.save(state, buffer)
        write_atomic(path, buffer.getvalue())

    def resume(self, path: Path) -> None:
        """Continue from `save`; the recipe may name more steps, all else must be the same."""
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
        except OSError:
            raise
        except Exception as error:  # torch names neither the file nor a class of its own
            raise ValueError(f"{path} is damaged: {type(error).__name__}") from error
        theirs, ours = state["recipe"], asdict(self.recipe)
        changed = [key for key in ours if key != "steps" and theirs.get(key) != ours[key]]
        if changed:
            raise ValueError(
                f"{path} was trained with another {', '.join(changed)}: "
                + ", ".join(f"{key}={theirs.get(key)}" for key in changed)
            )
        self.model.load_state_dict(state["state_dict"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.aux_optimizer.load_state_dict(state["aux_optimizer"])
        self.step, self.skipped = state["step"], state["skipped"]


def train(
    recipe: Recipe, data: str | Path, save: str | Path, *, device: str = "cpu", every: int = 250
) -> Path:
    """Run or continue a training; returns the path of the averaged model.

    In the folder `save`: last.pth.tar (to resume from), model.safetensors (the averaged weights),
    log.csv and recipe.json, all current every `every` steps.
    """
    folder = Path(save)
    folder.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(recipe, data, device)
    last = folder / "last.pth.tar"
    if last.exists():
        trainer.resume(last)
    (folder / "recipe.json").write_text(json.dumps(asdict(recipe), indent=1) + "\n")
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.completed}/{task.total}"),
        BarColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    mean = None
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=recipe.steps, completed=trainer.step)
        while trainer.step < recipe.steps:
            values = trainer.train_step()
            mean = (
                values
                if mean is None
                else {k: 0.98 * mean[k] + 0.02 * v for k, v in values.items()}
            )
            text = "loss {loss:.3f}  {bpp:.3f} bpp  {psnr:.2f} dB".format(**mean)
            progress.update(task, completed=trainer.step, description=text)
            if trainer.step % every == 0 or trainer.step == recipe.steps:
                trainer.save(last)
                _save_model(trainer, folder)
                _log(folder / "log.csv", trainer, mean)
                if not console.is_terminal:
                    console.print(f"step {trainer.step}  {text}")
    return folder / "model.safetensors"


def _save_model(trainer: Trainer, folder: Path) -> None:
    recipe = trainer.recipe
    checkpoint.save(
        trainer.averaged,
        folder / "model.safetensors",
        compact=True,
        **{"lambda": recipe.lmbda},
        metric="mse",
        steps=trainer.step,
        batch=recipe.batch,
        crop=recipe.crop,
    )


def _log(path: Path, trainer: Trainer, mean: dict[str, float]) -> None:
    row = {"step": trainer.step, **{k: f"{v:.6g}" for k, v in mean.items()}}
    row["lr"], row["skipped"] = f"{trainer.learning_rate():.6g}", trainer.skipped
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, row)
        if new:
            writer.writeheader()
        writer.writerow(row)
