"""Training pictures: a folder in memory, and random crops that are a function of the step alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from . import images


def find_pictures(folder: str | Path) -> list[Path]:
    """Every picture below a folder, sorted; FileNotFoundError where there is none."""
    folder = Path(folder)
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in images.SUFFIXES)
    if not found:
        raise FileNotFoundError(f"no pictures in {folder}")
    return found


class Crops:
    """Random crops of a folder's pictures.

    The pictures are decoded once and kept as uint8 (3 bytes a pixel). Batch number `step` is a
    function of the seed and the step, so that a resumed training sees what it would have seen.
    """

    def __init__(self, folder: str | Path, crop: int, batch: int, seed: int = 0):
        self.crop, self.batch, self.seed = crop, batch, seed
        self.pictures = []
        for path in find_pictures(folder):
            picture = images.read(path, strip=True).pixels
            if min(picture.shape[:2]) >= crop:
                self.pictures.append(picture)
        if not self.pictures:
            raise ValueError(f"no picture in {folder} is at least {crop} x {crop}")
        areas = np.array([p.shape[0] * p.shape[1] for p in self.pictures], dtype=np.float64)
        self.weights = areas**0.5 / (areas**0.5).sum()

    def __getitem__(self, step: int) -> Tensor:
        """Batch number `step`: float32 [batch, 3, crop, crop] in [0, 1]."""
        rng = np.random.default_rng((self.seed, step))
        out = np.empty((self.batch, self.crop, self.crop, 3), dtype=np.uint8)
        for i, index in enumerate(rng.choice(len(self.pictures), self.batch, p=self.weights)):
            picture = self.pictures[index]
            top, left = (rng.integers(side - self.crop + 1) for side in picture.shape[:2])
            patch = picture[top : top + self.crop, left : left + self.crop]
            if rng.random() < 0.5:
                patch = patch[:, ::-1]
            out[i] = patch
        return torch.from_numpy(out).permute(0, 3, 1, 2).to(torch.float32) / 255
