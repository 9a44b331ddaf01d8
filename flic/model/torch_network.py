"""A FLIC module as what the codec codes with: arrays in, arrays out, on the module's device."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable

import numpy as np
import torch

from flic_kernels import native

from ..coding import entropy, tile_transforms
from ..coding.entropy_engine import Engine
from ..coding.model_engine import engine_of
from ..coding.slice_loop import Unrounded
from ..errors import CheckpointError
from ..format.tile_grid import Tile
from . import checkpoint, refinement
from .network import FLIC


class TorchNetwork:
    """A `coding.array_coder.Network`, which says what the methods take."""

    def __init__(self, model: FLIC) -> None:
        self.model, self.config, self.metadata = model, model.config, model.metadata
        self.fingerprint = checkpoint.fingerprint(model)
        self._made: tuple[tuple, Engine] | None = None

    def check(self) -> None:
        for name, parameter in self.model.g_s.named_parameters(prefix="g_s"):
            if not bool(torch.isfinite(parameter).all()):
                raise CheckpointError(f"these weights cannot code: {name} holds NaN or infinity")

    def engine(self) -> Engine:
        """Weights are looked at once for the threads and the instruction set in use."""
        setting = torch.get_num_threads(), native.isa()
        if self._made is None or self._made[0] != setting:
            self._made = setting, engine_of(self.model)
        return self._made[1]

    @torch.no_grad()
    def analyze(self, x: np.ndarray, tile: Tile, dtype: str) -> Unrounded:
        x = torch.from_numpy(x).to(self._parameter).permute(2, 0, 1)[None]
        return tile_transforms.analyze(self.model, x, tile, self._computed(dtype))[0]

    @torch.no_grad()
    def synthesize(self, y_hat: np.ndarray, tile: Tile, dtype: str) -> np.ndarray:
        y_hat = torch.from_numpy(np.ascontiguousarray(y_hat)).to(self._parameter.device)[None]
        x_hat = tile_transforms.synthesize(self.model, y_hat, tile, self._computed(dtype))[0]
        return x_hat.float().permute(1, 2, 0).cpu().contiguous().numpy()

    def around(
        self, analysed: Unrounded, x: np.ndarray, step: float
    ) -> tuple[tuple[float, float], ...]:
        x = self._picture(x)
        costs = refinement.around(self._frozen, self._latents(analysed), x, step)
        return tuple((bits.item(), error.item() * x.numel()) for bits, error in costs)

    def refine(
        self,
        analysed: Unrounded,
        x: np.ndarray,
        step: float,
        slope: float,
        iterations: int,
        progress: Callable[[int, float], None],
        enough: Callable[[], bool],
    ) -> Unrounded:
        x = self._picture(x)
        refined = refinement.refine(
            self._frozen, self._latents(analysed), x, step, slope, iterations, progress, enough
        )
        return refined[0]

    @functools.cached_property
    def _frozen(self) -> FLIC:
        """The model without gradients of its parameters, in float32."""
        return copy.deepcopy(self.model).float().eval().requires_grad_(False)

    def _picture(self, x: np.ndarray) -> torch.Tensor:
        x = torch.from_numpy(np.array(x)).to(self._parameter.device)
        return x.permute(2, 0, 1)[None].float() / 255

    def _latents(self, analysed: Unrounded) -> entropy.Unrounded:
        device = self._parameter.device
        return entropy.Unrounded(
            *(torch.from_numpy(np.ascontiguousarray(part)).to(device)[None] for part in analysed)
        )

    @property
    def _parameter(self) -> torch.Tensor:
        """One whose device and dtype are the model's."""
        return next(self.model.parameters())

    def _computed(self, dtype: str) -> torch.dtype:
        return getattr(torch, dtype)
