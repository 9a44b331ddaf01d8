"""A model that codes without torch: its weights as arrays, its transforms in C++.

The results are those of the torch module on a CPU, which computes by the same operations.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Mapping

import numpy as np

from flic_kernels import interface, native
from flic_kernels.exact import MAX_THREADS

from ..config import Config
from ..errors import CheckpointError
from ..format.tile_grid import COARSE, FINE, MIDDLE, Margins, Tile
from . import limits
from .entropy_engine import Engine, build_from
from .slice_loop import Unrounded

_TRANSFORMS = ("g_a.", "g_s.", "h_a.")
_ELEMENTS = {"float32": 0, "bfloat16": 1}  # csrc/include/flic_kernels.h
_NONE = Margins()


class NativeNetwork:
    """config, metadata: of the model. fingerprint: its 16 hexadecimal digits.

    weights: float32 arrays by the published names; not copied, they must not change. Raises
    CheckpointError where they do not fit the configuration.
    """

    def __init__(
        self,
        weights: Mapping[str, np.ndarray],
        config: Config,
        metadata: dict[str, str],
        fingerprint: str,
    ) -> None:
        self.config, self.metadata, self.fingerprint = config, metadata, fingerprint
        self._weights = dict(weights)
        self._medians = self._weights["entropy_bottleneck.quantiles"][:, 0, 1][:, None, None]
        self._library = native.library()
        self._lock = threading.Lock()
        self._made: tuple[tuple, Engine] | None = None
        names = [name for name in self._weights if name.startswith(_TRANSFORMS)]
        arrays = [self._weights[name] for name in names]
        count, sizes = len(names), (*config.widths, *config.heads, config.latent, config.hyper)
        self._handle = ctypes.c_void_p()
        self._call(
            "create", (ctypes.c_int32 * len(sizes))(*sizes), len(sizes),
            (ctypes.c_char_p * count)(*(name.encode() for name in names)),
            (ctypes.c_void_p * count)(*(array.ctypes.data for array in arrays)),
            (ctypes.c_int64 * count)(*(array.size for array in arrays)), count,
            ctypes.byref(self._handle),
        )  # fmt: skip
        native.free_with(self, self._library.flic_transforms_destroy, self._handle)

    def check(self) -> None:
        """Raise CheckpointError where g_s cannot draw: an encoder does not run it, and would write
        files that show nothing. What else coding takes is checked on the way."""
        for name, array in self._weights.items():
            if name.startswith("g_s.") and not bool(np.isfinite(array).all()):
                raise CheckpointError(f"these weights cannot code: {name} holds NaN or infinity")

    def engine(self) -> Engine:
        """For the threads and the instruction set in use; kept."""
        setting = min(native.threads(), MAX_THREADS), native.isa()
        with self._lock:
            if self._made is None or self._made[0] != setting:
                threads, isa = setting
                self._made = setting, build_from(self._weights, threads=threads, isa=isa)
            return self._made[1]

    def analyze(self, x: np.ndarray, tile: Tile, dtype: str) -> Unrounded:
        """What is to be rounded and coded for a tile.

        x: the padded picture inside `tile_grid.input_box`, float32 [H, W, 3] in [0, 1].
        dtype: in which g_a computes, of config.DTYPES.
        """
        limits.check_transform(self.config, x.shape[:2])
        core, coded = tile.core, tile.coded
        boxes = [core.grown(margin, tile.bounds) for margin in (FINE, MIDDLE, COARSE)]
        geometry = _structure(
            "FlicAnalysisTile",
            (boxes[0].margins_to(boxes[1]), 4), (boxes[1].margins_to(boxes[2]), 8),
            (core.margins_to(boxes[2]), 16), (tile.margins, 16), (core.margins_to(coded), 64),
        )  # fmt: skip
        y = np.empty((self.config.latent, core.height // 16, core.width // 16), np.float32)
        z = np.empty((self.config.hyper, core.height // 64, core.width // 64), np.float32)
        x = np.ascontiguousarray(x, np.float32)
        self._call(
            "analyze", self._handle, _ELEMENTS[dtype], native.pointer(x), *x.shape[:2],
            ctypes.byref(geometry), native.pointer(y), native.pointer(z), native.threads(),
        )  # fmt: skip
        return Unrounded(y, z - self._medians)

    def synthesize(self, y_hat: np.ndarray, tile: Tile, dtype: str) -> np.ndarray:
        """A tile's pixels in [0, 1], [H, W, 3], from y_hat inside `tile_grid.latent_box`.

        y_hat: float32 [M, h, w]. dtype: in which g_s computes. Raises CheckpointError where a pixel
        is NaN or infinity.
        """
        limits.check_transform(self.config, tuple(16 * side for side in y_hat.shape[1:]))
        boxes = [tile.core.grown(margin, tile.bounds) for margin in (COARSE, MIDDLE, FINE)]
        geometry = _structure(
            "FlicSynthesisTile",
            (boxes[1].margins_to(boxes[0]), 4), (boxes[2].margins_to(boxes[1]), 2),
            (tile.core.margins_to(boxes[2]), 1),
        )  # fmt: skip
        x_hat = np.empty((tile.core.height, tile.core.width, 3), np.float32)
        y_hat = np.ascontiguousarray(y_hat, np.float32)
        self._call(
            "synthesize", self._handle, _ELEMENTS[dtype], native.pointer(y_hat), *y_hat.shape[1:],
            ctypes.byref(geometry), native.pointer(x_hat), native.threads(),
        )  # fmt: skip
        return displayable(x_hat)

    def _call(self, name: str, *arguments) -> None:
        status = getattr(self._library, f"flic_transforms_{name}")(*arguments)
        if status == interface.statuses()["OUT_OF_MEMORY"]:
            raise MemoryError("the transforms found no memory")
        if status:
            raise CheckpointError(self._library.flic_transforms_error().decode())


def displayable(x_hat: np.ndarray) -> np.ndarray:
    """Pixels clamped to [0, 1]; CheckpointError where one is NaN or infinity, which would turn
    black or white."""
    if not bool(np.isfinite(x_hat).all()):
        raise CheckpointError("the model cannot draw this picture: its pixels hold NaN or infinity")
    return np.clip(x_hat, 0, 1, out=x_hat)


def _structure(name: str, *margins: tuple[Margins, int]) -> ctypes.Structure:
    """Of margins in pixels of the picture, each at its resolution."""
    kind = interface.structure("FlicMargins")
    parts = (kind(*(side // scale for side in part)) for part, scale in margins)
    return interface.structure(name)(*parts)
