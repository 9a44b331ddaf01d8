"""Batches of random crops: each a function of the step alone, made ahead of time by threads."""

from __future__ import annotations

import functools
import itertools
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from .pictures import Pictures
from .randomness import crop_rng, order_rng
from .recipe import Recipe

_AHEAD = 3  # batches that threads prepare


class Crops:
    """Random crops of pictures, by step and by sample of the step's (global) batch.

    An epoch takes every picture once (or as `Recipe.by_area` says) in a random order; its last
    batch is filled up from the epoch's beginning. In place of a damaged picture comes the next in
    that order.
    """

    def __init__(self, pictures: Pictures, recipe: Recipe):
        self.pictures, self.recipe = pictures, recipe
        times = np.ones(len(pictures), dtype=np.int64)
        if recipe.by_area:
            areas = np.array([np.prod(file.size) for file in pictures.files], dtype=np.float64)
            times = np.maximum(1, np.rint(np.sqrt(areas) / recipe.crop)).astype(np.int64)
        self._indexes = np.repeat(np.arange(len(pictures)), times)
        self.steps_per_epoch = -(-len(self._indexes) // recipe.batch)
        self._order = functools.lru_cache(4)(self._make_order)

    def _make_order(self, epoch: int) -> np.ndarray:
        return order_rng(self.recipe.seed, epoch).permutation(self._indexes)

    def sample(self, step: int, sample: int) -> np.ndarray:
        """One crop, uint8 [crop, crop, 3]; ValueError where every picture is damaged."""
        recipe = self.recipe
        epoch, batch = divmod(step, self.steps_per_epoch)
        picture = self._whole(self._order(epoch), batch * recipe.batch + sample)
        rng = crop_rng(recipe.seed, step, sample)
        top, left = (rng.integers(side - recipe.crop + 1) for side in picture.shape[:2])
        patch = picture[top : top + recipe.crop, left : left + recipe.crop]
        mirrored = recipe.flip and rng.random() < 0.5
        return patch[:, ::-1] if mirrored else patch

    def _whole(self, order: np.ndarray, place: int) -> np.ndarray:
        for i in range(len(order)):
            picture = self.pictures.read(int(order[(place + i) % len(order)]))
            if picture is not None:
                return picture
        raise ValueError("every picture is damaged")

    def batch(self, step: int, samples: range) -> np.ndarray:
        """Some samples of a step's batch, uint8 [len(samples), crop, crop, 3]."""
        return np.stack([self.sample(step, i) for i in samples])


def to_tensor(batch: np.ndarray, device: torch.device) -> Tensor:
    """uint8 [B, H, W, 3] -> float32 [B, 3, H, W] in [0, 1] on a device, channels last in memory."""
    x = torch.from_numpy(batch)
    if device.type == "cuda":
        x = x.pin_memory().to(device, non_blocking=True)
    return x.permute(0, 3, 1, 2).to(torch.float32) / 255


def batches(crops: Crops, first: int, samples: range, workers: int) -> Iterator[np.ndarray]:
    """Batches of steps `first`, `first + 1` and so on, without end.

    `workers` threads read samples ahead of time; with 0 each batch is made when it is asked for.
    Close the iterator to end the threads.
    """
    if workers == 0:
        for step in itertools.count(first):
            yield crops.batch(step, samples)
    with ThreadPoolExecutor(workers, thread_name_prefix="flic-crops") as pool:
        try:
            pending = deque()
            for step in itertools.count(first):
                pending.append([pool.submit(crops.sample, step, i) for i in samples])
                if len(pending) > _AHEAD:
                    yield np.stack([crop.result() for crop in pending.popleft()])
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
