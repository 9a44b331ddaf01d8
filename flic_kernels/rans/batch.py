"""The rANS coder over a batch of pictures: one stream each, coded by threads or by the GPU."""

import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch

from . import cuda
from .coder import Decoder, Encoder
from .tables import Tables


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
        self._new = functools.partial(Encoder, lanes=lanes, groups=groups)
        self._encoders = [self._new() for _ in range(pictures)]
        self._cuda = cuda.CudaEncoder(pictures, lanes=lanes, groups=groups)
        self._on_cuda: bool | None = None
        self._threads = threads

    def push(self, symbols: torch.Tensor, indexes: torch.Tensor, tables: Tables) -> None:
        """Encoder.push for tensors [pictures, ...]; raises what that raises."""
        if symbols.shape != indexes.shape or symbols.shape[:1] != (len(self._encoders),):
            raise ValueError("rANS encoder: symbols and indexes must both be [pictures, ...]")
        on_cuda = symbols.device.type == "cuda"
        if self._on_cuda not in (None, on_cuda):
            raise ValueError("rANS encoder: all pushes must be on one device")
        self._on_cuda = on_cuda
        if on_cuda:
            self._cuda.push(symbols.contiguous(), indexes.contiguous(), tables)
            return
        for encoder, mine, index in zip(self._encoders, symbols, indexes, strict=True):
            encoder.push(mine, index, tables)

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
        device = torch.device(device)
        self._threads = threads
        self._cuda = cuda.CudaDecoder(streams, device) if device.type == "cuda" else None
        self._decoders = [] if self._cuda else [Decoder(data) for data in streams]

    def pull(self, indexes: torch.Tensor, tables: Tables) -> torch.Tensor:
        """Decoder.pull for indexes [pictures, ...]; raises what that raises."""
        if self._cuda is not None:
            return self._cuda.pull(indexes.contiguous(), tables)
        if indexes.shape[:1] != (len(self._decoders),):
            raise ValueError("rANS decoder: indexes must be [pictures, ...]")
        pulled = _for_each(
            lambda pair: pair[0].pull(pair[1], tables),
            list(zip(self._decoders, indexes, strict=True)),
            self._threads,
        )
        return torch.stack(pulled) if pulled else torch.empty(indexes.shape, dtype=torch.int32)

    def close(self) -> None:
        """Decoder.close for every picture; raises CorruptStream for the first that is damaged."""
        if self._cuda is not None:
            self._cuda.close()
        for decoder in self._decoders:
            decoder.close()
