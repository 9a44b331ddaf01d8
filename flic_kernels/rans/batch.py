"""The rANS coder over a batch of pictures: one stream each, coded by threads or by the GPU."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from flic_kernels import arrays

from .coder import Decoder, Encoder, cuda_decoder
from .tables import Tables

if TYPE_CHECKING:
    import torch

    from flic_kernels.arrays import Array

    from .cuda import CudaEncoder


def _for_each(function: Callable, items: Sequence, threads: int | None) -> list:
    """function over items by threads (the native coder releases the GIL), in order."""
    threads = min(len(items), threads or os.cpu_count() or 1)
    if threads <= 1:
        return [function(item) for item in items]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, items))


class BatchEncoder:
    """An Encoder for each of a number of pictures.

    threads: on a CPU, at most so many (default: the machine's); the streams do not depend on it.
    lanes, groups: as for Encoder.
    Raises ValueError where they are no powers of two up to 32.
    """

    def __init__(
        self,
        pictures: int,
        *,
        lanes: int | None = None,
        groups: int | None = None,
        threads: int | None = None,
    ):
        self._options = {"lanes": lanes, "groups": groups}
        self._new = functools.partial(Encoder, **self._options)
        self._encoders = [self._new() for _ in range(pictures)]
        self._cuda: CudaEncoder | None = None
        self._on_cuda: bool | None = None
        self._threads = threads

    def push(self, symbols: Array, indexes: Array, tables: Tables) -> None:
        """Encoder.push for [pictures, ...]; raises what that raises."""
        if symbols.shape != indexes.shape or symbols.shape[:1] != (len(self._encoders),):
            raise ValueError("rANS encoder: symbols and indexes must both be [pictures, ...]")
        on_cuda = arrays.device(symbols).startswith("cuda")
        if self._on_cuda not in (None, on_cuda):
            raise ValueError("rANS encoder: all pushes must be on one device")
        if on_cuda and self._cuda is None:
            from . import cuda

            self._cuda = cuda.CudaEncoder(len(self._encoders), **self._options)
        self._on_cuda = on_cuda
        if on_cuda:
            self._cuda.push(symbols.contiguous(), indexes.contiguous(), tables)
            return
        for picture, encoder in enumerate(self._encoders):
            encoder.push(symbols[picture, ...], indexes[picture, ...], tables)

    def finish(self) -> list[bytes]:
        """Each picture's stream; the encoder is empty again, after an error too. Raises IndexError
        where a table index is out of range."""
        on_cuda, self._on_cuda = self._on_cuda, None
        if on_cuda:
            return self._cuda.finish()
        encoders, self._encoders = self._encoders, [self._new() for _ in self._encoders]
        return _for_each(lambda encoder: encoder.finish(), encoders, self._threads)


class BatchDecoder:
    """A Decoder for each of a number of streams; raises CorruptStream where that does.

    threads: as for BatchEncoder.
    """

    def __init__(
        self,
        streams: Sequence[bytes],
        device: torch.device | str = "cpu",
        *,
        threads: int | None = None,
    ):
        self._threads = threads
        self._cuda = cuda_decoder(streams, device)
        self._decoders = [] if self._cuda else [Decoder(data) for data in streams]

    def pull(self, indexes: Array, tables: Tables) -> Array:
        """Decoder.pull for indexes [pictures, ...]; raises what that raises."""
        if self._cuda is not None:
            return self._cuda.pull(indexes.contiguous(), tables)
        if indexes.shape[:1] != (len(self._decoders),):
            raise ValueError("rANS decoder: indexes must be [pictures, ...]")
        symbols = np.empty(indexes.shape, np.int32)

        def pull(picture: int) -> None:
            pulled = self._decoders[picture].pull(indexes[picture, ...], tables)
            symbols[picture, ...] = arrays.to_numpy(pulled)

        _for_each(pull, range(len(self._decoders)), self._threads)
        return arrays.as_given(symbols, arrays.is_tensor(indexes))

    def close(self) -> None:
        """Decoder.close for every picture; raises CorruptStream for the first that is damaged."""
        if self._cuda is not None:
            self._cuda.close()
        for decoder in self._decoders:
            decoder.close()
