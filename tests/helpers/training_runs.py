"""What the tests of training share: a tiny configuration, pictures, recipes."""

import csv
from pathlib import Path

import numpy as np
from PIL import Image

from flic.config import Config
from flic.training import Options, Recipe
from flic.training.crops import Crops, to_tensor
from flic.training.pictures import Pictures, scan
from flic.training.trainer import Trainer

MINI = Config(widths=(8, 8, 8), heads=(4, 4, 4), latent=16, hyper=8, slices=2, ratio=2, depth=1)

FAST_RUN = {
    "optimizer": "muon",
    "schedule": "linear",
    "scale_bound": 0.11,
    "linear_start": True,
    "entropy_first": 2,
    "variable": True,
}
"""What the fast recipe turns on, in little."""

QUICK = Options(every=1, log_every=1, workers=0, hold_out=0)


def write_pictures(folder: Path, count: int = 3, width: int = 150, height: int = 128) -> Path:
    """A new folder of smooth pictures."""
    folder.mkdir(parents=True)
    for i in range(count):
        y, x = np.mgrid[:height, :width] / 25
        picture = np.stack([np.sin(x + i), np.cos(y - i), np.sin(x * y / 9)], axis=2)
        Image.fromarray((127.5 + 127.5 * picture).astype(np.uint8)).save(folder / f"{i}.png")
    return folder


def recipe(**change) -> Recipe:
    values = {"config": MINI.to_dict(), "batch": 2, "crop": 128, "lr": 1e-3, "warmup": 2}
    values |= {} if "epochs" in change else {"steps": 4}
    return Recipe(**(values | change))


def crops_of(folder: Path, recipe: Recipe, report=print) -> Crops:
    return Crops(Pictures(scan(folder, recipe.crop, report), 1 << 30, report), recipe)


def batch_of(trainer: Trainer, crops: Crops):
    """The trainer's part of its coming batch."""
    return to_tensor(crops.batch(trainer.step, trainer.samples), trainer.world.device)


def rows(path: Path) -> list[dict[str, str]]:
    """A CSV file's rows without what depends on the time."""
    with path.open(newline="") as file:
        return [{k: v for k, v in row.items() if k not in ("rate", "loading")}
                for row in csv.DictReader(file)]  # fmt: skip
