"""The coder's Python face: a push/pull stream of integers, on the CPU."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from flic_kernels import arrays, interface, native

from .tables import Tables

if TYPE_CHECKING:
    import torch

    from flic_kernels.arrays import Array

    from .cuda import CudaDecoder

_SYMBOL_TYPES = ("int8", "int16", "int32")
_INDEX_TYPES = ("int32", "uint16")

_Push = interface.structure("FlicPush")


def gaussian_indexes(means: Array, scales: Array, tables: Tables) -> tuple[Array, Array]:
    """Table indexes and centers of Gaussians; what is coded is y - centers.

    means, scales: float32 tensors of one shape (scales below 0.01 count as 0.01). tables:
    gaussian_tables(). Returns two int32 tensors of that shape. The same input bits give the same
    integers on every machine. Raises TypeError for another dtype, ValueError for tables, shapes or
    devices that do not fit, and for NaN and infinity; on CUDA, which is not waited for, these get
    index -1 instead, which the coder refuses when it finishes.
    """
    if tables.cells is None:
        raise ValueError("gaussian_indexes: these are not Gaussian tables")
    if means.shape != scales.shape:
        raise ValueError("gaussian_indexes: means and scales differ in shape")
    given = arrays.is_tensor(means)
    means = _as_input(means, ("float32",), "gaussian_indexes: means")
    scales = _as_input(scales, ("float32",), "gaussian_indexes: scales")
    if arrays.device(means) != arrays.device(scales):
        raise ValueError("gaussian_indexes: means and scales are on two devices")
    if arrays.device(means) != "cpu":
        from . import cuda

        return cuda.gaussian_indexes(means, scales, tables)
    indexes = np.empty(means.shape, np.int32)
    centers = np.empty(means.shape, np.int32)
    status = native.library().flic_rans_gaussian_indexes(
        native.pointer(means),
        native.pointer(scales),
        means.size,
        native.pointer(tables.row_first),
        native.pointer(tables.row_size),
        native.pointer(tables.padded_cells),
        native.pointer(indexes),
        native.pointer(centers),
    )
    native.check(status, "gaussian_indexes")
    return arrays.as_given(indexes, given), arrays.as_given(centers, given)


class Encoder:
    """Collects pushes and codes them as one stream.

    All pushes are on one device: on a CUDA device the GPU coder works, with the same bytes.
    lanes, groups: powers of two up to 32 that force the number of interleaved states and of
    groups of them; by default the payload decides. Raises ValueError for other numbers.
    """

    def __init__(self, *, lanes: int | None = None, groups: int | None = None):
        for name, value in (("lanes", lanes), ("groups", groups)):
            if value is not None and value not in (1, 2, 4, 8, 16, 32):
                raise ValueError(f"{name} is a power of two from 1 to 32, not {value}")
        self._lanes, self._groups = lanes, groups
        self._pushes, self._device = [], None

    def push(self, symbols: Array, indexes: Array, tables: Tables) -> None:
        """Appends symbols (int8, int16 or int32, any shape) coded with tables[indexes] (int32 or
        uint16, the same shape). They must not change before finish(). Raises TypeError for
        another dtype, ValueError for shapes or devices that do not fit each other."""
        if symbols.shape != indexes.shape:
            raise ValueError("rANS encoder: symbols and indexes differ in shape")
        symbols = _as_input(symbols, _SYMBOL_TYPES, "rANS encoder: symbols")
        indexes = _as_input(indexes, _INDEX_TYPES, "rANS encoder: indexes")
        device = arrays.device(symbols)
        if arrays.device(indexes) != device or self._device not in (None, device):
            raise ValueError("rANS encoder: all pushes must be on one device")
        self._pushes.append((symbols, indexes, tables))
        self._device = device

    def finish(self) -> bytes:
        """The stream of all pushes; the encoder is empty again, after an error too. Raises
        IndexError where a table index is out of range."""
        pushes, device = self._pushes, self._device
        self._pushes, self._device = [], None
        if device not in (None, "cpu"):
            from . import cuda

            encoder = cuda.CudaEncoder(1, lanes=self._lanes, groups=self._groups)
            for symbols, indexes, tables in pushes:
                encoder.push(symbols[None], indexes[None], tables)
            return encoder.finish()[0]
        array = (_Push * len(pushes))(
            *(
                _Push(
                    native.pointer(symbols),
                    native.pointer(indexes),
                    symbols.size,
                    tables.handle,
                    symbols.itemsize,
                    indexes.itemsize,
                )
                for symbols, indexes, tables in pushes
            )
        )
        stream = ctypes.c_void_p()
        status = native.library().flic_rans_encode(
            array,
            len(pushes),
            self._lanes or 0,
            self._groups or 0,
            ctypes.byref(stream),
        )
        native.check(status, "rANS encoder")
        return native.take_bytes(stream)


class Decoder:
    """Reads a stream back, pull by pull, in the order of the pushes.

    Any bytes are safe: what cannot be an encoder's work raises CorruptStream, at once or in a
    later pull or in close(), and every later call raises it again. device: of the indexes and the
    symbols; on a CUDA device only close() waits for it and tells of damage.
    """

    def __init__(self, data: bytes, device: torch.device | str = "cpu"):
        self._cuda = cuda_decoder([data], device)
        if self._cuda is not None:
            return
        library = native.library()
        self._handle = ctypes.c_void_p()
        data = bytes(data)
        status = library.flic_rans_decoder_new(data, len(data), ctypes.byref(self._handle))
        native.check(status, "rANS decoder")
        native.free_with(self, library.flic_rans_decoder_free, self._handle)

    def pull(self, indexes: Array, tables: Tables) -> Array:
        """The next push's symbols, int32 of the shape of indexes (int32 or uint16).

        Raises TypeError for another dtype, ValueError for another device and, but for CUDA,
        IndexError where a table index is out of range and CorruptStream."""
        given = arrays.is_tensor(indexes)
        indexes = _as_input(indexes, _INDEX_TYPES, "rANS decoder: indexes")
        if (self._cuda is None) != (arrays.device(indexes) == "cpu"):
            raise ValueError("rANS decoder: the indexes are on another device than the decoder")
        if self._cuda is not None:
            return self._cuda.pull(indexes[None], tables)[0]
        symbols = np.empty(indexes.shape, np.int32)
        status = native.library().flic_rans_decoder_pull(
            self._handle,
            native.pointer(indexes),
            indexes.itemsize,
            indexes.size,
            tables.handle,
            native.pointer(symbols),
        )
        native.check(status, "rANS decoder")
        return arrays.as_given(symbols, given)

    def close(self) -> None:
        """Checks that everything was pulled and the stream ends as it should; raises CorruptStream
        where it does not, and on CUDA what pull() raises elsewhere."""
        if self._cuda is not None:
            self._cuda.close()
            return
        native.check(native.library().flic_rans_decoder_close(self._handle), "rANS decoder")


def encode(symbols: Array, indexes: Array, tables: Tables) -> bytes:
    """One push as a stream of its own; raises what Encoder.push and Encoder.finish raise."""
    encoder = Encoder()
    encoder.push(symbols, indexes, tables)
    return encoder.finish()


def decode(data: bytes, indexes: Array, tables: Tables) -> Array:
    """The symbols that encode() coded; raises CorruptStream for data that it cannot have made, and
    what Decoder.pull raises."""
    decoder = Decoder(data, arrays.device(indexes))
    symbols = decoder.pull(indexes, tables)
    decoder.close()
    return symbols


def cuda_decoder(streams: Sequence[bytes], device: torch.device | str) -> CudaDecoder | None:
    """What decodes on a CUDA device, None for the CPU."""
    if getattr(device, "type", device) == "cpu":
        return None
    from . import cuda

    return cuda.CudaDecoder(streams, device) if cuda.is_cuda(device) else None


def _as_input(x: Array, types: tuple[str, ...], what: str) -> Array:
    """x contiguous, as a numpy array where it is on the CPU; raises as its takers do."""
    if not isinstance(x, np.ndarray) and not arrays.is_tensor(x):
        raise TypeError(f"{what} must be a numpy array or a torch tensor, not {type(x).__name__}")
    device = arrays.device(x)
    if device.partition(":")[0] not in ("cpu", "cuda"):
        raise ValueError(f"{what} must be a CPU or CUDA tensor, not {device}")
    if arrays.dtype(x) not in types:
        raise TypeError(f"{what} must be {', '.join(types)}, not {arrays.dtype(x)}")
    return arrays.to_numpy(x) if device == "cpu" else x.detach().contiguous()
