"""The exact entropy engine: h_mean_s, h_scale_s and T-CA with the same bits on every machine.

The networks that feed the coding tables are computed in float32 with one defined order of
operations (docs/exact.md), so a stream decodes wherever it was made: on any instruction set, with
any number of threads, alone or in a batch. Inputs are torch tensors or numpy arrays, and so are the
results; on CUDA it needs torch.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from . import arrays, native

if TYPE_CHECKING:
    from .arrays import Array

ARITHMETIC_VERSION = 1  # of docs/exact.md; streams carry it

_ISAS = ("scalar", "avx2", "avx512")
_CUDA = "cuda"
_NETWORKS = ("h_mean_s.", "h_scale_s.", "tca.")


class ExactEngine:
    """One model's weights, packed for one instruction set or on a CUDA device.

    Args:
        state_dict: the model's, by the published names; the three networks' float32 weights are
            copied. The sizes are read from their shapes.
        isa: "scalar", "avx2", "avx512" or "cuda"; None takes the processor's instruction set in
            use.
        threads: of the processor, to share the work among, 1 to 256; None takes one for each
            available one. Where the system gives fewer, the work is shared among those.
        device: for "cuda" the device's index; None takes the current device. The work runs on
            that device's current stream.

    Raises:
        KeyError: a weight is missing.
        ValueError: a weight has the wrong shape or dtype, or holds NaN or infinity, or there are
            less than 1 or more than 256 threads.
        RuntimeError: the machine lacks the instruction set, or CUDA failed.
        ImportError: the native library is not built; for "cuda", the CUDA library.

    Attributes:
        hyper_latent, latent: channels of z and y.
        slices, slice_channels, inner: y's slices, a slice's channels in y and inside T-CA.
        fingerprint: 64 bits over the weights in use and what was folded from them.
    """

    def __init__(
        self,
        state_dict: Mapping[str, Array],
        *,
        isa: str | None = None,
        threads: int | None = None,
        device: int | None = None,
    ):
        if isa not in (None, *_ISAS, _CUDA):
            known = ", ".join((*_ISAS, _CUDA))
            raise ValueError(f"unknown instruction set {isa!r}: one of {known}")
        weights = {
            name: _float32(name, value)
            for name, value in state_dict.items()
            if name.startswith(_NETWORKS) and arrays.is_floating(value)
        }
        config = sizes(weights)
        self.hyper_latent, _, _, self.latent, self.slices, ratio, _ = config
        self.slice_channels = self.latent // self.slices
        self.inner = self.slice_channels * ratio
        self.threads = (
            min(_available_processors(), native.MAX_THREADS) if threads is None else threads
        )
        self.isa = native.isa() if isa is None else isa

        self._native = _Functions(self.isa == _CUDA)
        names = list(weights)
        count = len(names)
        handle = ctypes.c_void_p()
        if self.isa == _CUDA:
            from . import cuda

            current = cuda.current_device()
            if current is None:
                raise RuntimeError("exact engine: no CUDA device is available")
            self.device = current if device is None else device
            where = (self.device,)
        else:
            where = (_ISAS.index(self.isa), self.threads)
        self._native.call(
            "create",
            "exact engine",
            (ctypes.c_int32 * len(config))(*config),
            len(config),
            (ctypes.c_char_p * count)(*(name.encode() for name in names)),
            (ctypes.c_void_p * count)(*map(native.pointer, weights.values())),
            (ctypes.c_int64 * count)(*(weight.size for weight in weights.values())),
            count,
            *where,
            ctypes.byref(handle),
        )
        self._handle = handle
        native.free_with(self, self._native.get("destroy"), handle)
        fingerprint = ctypes.c_uint64()
        self._native.call("fingerprint", "exact engine", handle, ctypes.byref(fingerprint))
        self.fingerprint = fingerprint.value

    def hyper(self, z_hat: Array) -> tuple[Array, Array]:
        """The hyper-synthesis transforms.

        Args:
            z_hat: [B, N, h, w], on any device, h and w even.

        Returns:
            means and scales, [B, M, 4h, 4w] float32 on the CPU.

        Raises:
            ValueError: another shape, or NaN or infinity in z_hat or in what comes of it.
        """
        if z_hat.ndim != 4 or z_hat.shape[1] != self.hyper_latent:
            raise ValueError(
                f"z_hat must be [B, {self.hyper_latent}, h, w], not {list(z_hat.shape)}"
            )
        given, z_hat = arrays.is_tensor(z_hat), arrays.to_float32(z_hat)
        batch, _, height, width = z_hat.shape
        size = batch, self.latent, 4 * height, 4 * width
        means, scales = np.empty(size, np.float32), np.empty(size, np.float32)
        for picture in range(batch):
            self._native.call(
                "hyper",
                "exact hyper-synthesis",
                self._handle,
                native.pointer(z_hat[picture]),
                height,
                width,
                native.pointer(means[picture]),
                native.pointer(scales[picture]),
                *self._stream(),
            )
        return arrays.as_given(means, given), arrays.as_given(scales, given)

    def begin(self, means: Array, scales: Array, step: float = 1.0) -> ExactPicture:
        """Begins one picture's T-CA.

        Args:
            means, scales: of the hyperprior, [M, H, W] each, H and W multiples of 8.
            step: the quantisation step, a float32: y is coded as multiples of it.
        """
        if means.ndim != 3 or means.shape[0] != self.latent or means.shape != scales.shape:
            raise ValueError(
                f"means and scales must be [{self.latent}, H, W] each, "
                f"not {list(means.shape)} and {list(scales.shape)}"
            )
        given, size = arrays.is_tensor(means), tuple(means.shape[1:])
        means, scales = arrays.to_float32(means), arrays.to_float32(scales)
        pointers = native.pointer(means), native.pointer(scales)
        return ExactPicture(self, size, step, given, "begin", *pointers, *size)

    def open(self, z_hat: Array, step: float = 1.0) -> ExactPicture:
        """`hyper` of one picture and `begin` with what it gives, which stays on the device.

        Args:
            z_hat: [N, h, w], h and w even. The picture's y is [M, 4h, 4w].
            step: as for `begin`.

        Raises:
            ValueError: as `hyper`.
        """
        if z_hat.ndim != 3 or z_hat.shape[0] != self.hyper_latent:
            raise ValueError(f"z_hat must be [{self.hyper_latent}, h, w], not {list(z_hat.shape)}")
        given, z_hat = arrays.is_tensor(z_hat), arrays.to_float32(z_hat)
        height, width = z_hat.shape[1:]
        size = 4 * height, 4 * width
        return ExactPicture(self, size, step, given, "open", native.pointer(z_hat), height, width)

    def _stream(self) -> tuple[ctypes.c_void_p, ...]:
        """The argument that only the CUDA functions take: the device's current stream."""
        if self.isa != _CUDA:
            return ()
        from . import cuda

        return (cuda.stream(self.device),)

    def slices_of(
        self, means: Array, scales: Array, y: Array, step: float = 1.0
    ) -> Iterator[tuple[Array, Array, Array]]:
        """All slices of a picture whose integers are known, one after the other (the encoder).

        Args:
            means, scales, step: as for `begin`.
            y: [M, H, W], the integers.

        Yields:
            what `ExactPicture.next_slice` returns for each slice.
        """
        picture = self.begin(means, scales, step)
        previous = None
        for first in range(0, len(y), self.slice_channels):
            yield picture.next_slice(previous)
            previous = y[first : first + self.slice_channels]


class ExactPicture:
    """One picture in the course of coding; `ExactEngine.begin` and `open` make it.

    size: y's height and width. step: the quantisation step. tensors: whether it gives tensors.
    """

    def __init__(
        self,
        engine: ExactEngine,
        size: tuple[int, int],
        step: float,
        tensors: bool,
        function: str,
        *arguments,
    ):
        self.engine, self.size, self.step, self.tensors = engine, size, step, tensors
        self._next = 0
        self._shape = (engine.slice_channels, *size)
        handle = ctypes.c_void_p()
        self._native = engine._native
        what = {"begin": "exact T-CA", "open": "exact hyper-synthesis"}[function]
        self._native.call(
            function, what, engine._handle, *arguments, *engine._stream(), ctypes.byref(handle)
        )
        self._handle = handle
        native.free_with(self, _end, self._native.get("end"), handle, engine)

    def next_slice(self, previous: Array | None = None) -> tuple[Array, Array, Array]:
        """The next slice, from the first on.

        Args:
            previous: the integers of the slice before, [M / slices, H, W], any dtype and device;
                None for the first.

        Returns:
            means, scales and lrp, [M / slices, H, W] float32 on the CPU each, in steps: T-CA sees
            step times the integers, and its means and scales are divided by the step, one float32
            operation for each number. Tensors where the picture began with tensors.

        Raises:
            ValueError: no slice is left, `previous` does not fit, or T-CA met NaN or infinity.
        """
        if (previous is None) != (self._next == 0):
            raise ValueError("the first slice takes no previous one, every other slice needs it")
        if previous is not None:
            if tuple(previous.shape) != self._shape:
                raise ValueError(
                    f"the slice before must be {list(self._shape)}, not {list(previous.shape)}"
                )
            previous = _scaled(np.multiply, arrays.to_float32(previous), self.step)
        out = [np.empty(self._shape, np.float32) for _ in range(3)]
        self._native.call(
            "slice",
            f"exact T-CA, slice {self._next}",
            self._handle,
            self._next,
            None if previous is None else native.pointer(previous),
            *map(native.pointer, out),
            *self.engine._stream(),
        )
        self._next += 1
        out[:2] = (_scaled(np.divide, part, self.step) for part in out[:2])
        means, scales, lrp = (arrays.as_given(part, self.tensors) for part in out)
        return means, scales, lrp

    def hidden(self) -> Array:
        """T-CA's activations of the latest slice after its last layer: [windows, 64, inner].

        Not on CUDA, like the next.
        """
        _, height, width = self._shape
        windows = height * width // 64
        inner = self.engine.inner
        out = np.empty((windows, 64, inner), np.float32)
        self._native.call("hidden", "exact T-CA", self._handle, native.pointer(out), out.size)
        return arrays.as_given(out, self.tensors)

    def multiply_adds(self) -> int:
        """Multiply-adds of all products, convolutions and attentions so far."""
        count = ctypes.c_int64()
        self._native.call("multiply_adds", "exact T-CA", self._handle, ctypes.byref(count))
        return count.value


def apply_function(name: str, x: Array, isa: str | None = None) -> Array:
    """The engine's "exp" (of values that are not positive) or "gelu", elementwise.

    Args:
        x: float32 on the CPU, any shape.
    """
    given, x = arrays.is_tensor(x), arrays.to_float32(x)
    padded = np.zeros((x.size + 15) // 16 * 16, np.float32)
    padded[: x.size] = x.reshape(-1)
    out = np.empty_like(padded)
    _Functions(cuda=False).call(
        "function",
        f"exact {name}",
        ("exp", "gelu").index(name),
        native.pointer(padded),
        native.pointer(out),
        padded.size,
        -1 if isa is None else _ISAS.index(isa),
    )
    return arrays.as_given(out[: x.size].reshape(x.shape), given)


def sizes(weights: Mapping[str, Array]) -> tuple[int, ...]:
    """hyper_latent, width, heads, latent, slices, ratio, depth, from the weights' shapes."""

    def shape(name: str, dimensions: int) -> tuple[int, ...]:
        if name not in weights:
            raise KeyError(f"the state dict has no {name}")
        if weights[name].ndim != dimensions:
            raise ValueError(f"{name} has {weights[name].ndim} dimensions, not {dimensions}")
        return tuple(weights[name].shape)

    bias_table = "h_mean_s.1.trans_block.attns.0.relative_position_bias_table"
    latent = shape("h_mean_s.3.0.weight", 4)[0] // 4
    slice_channels = shape("tca.TCA.start_token_from_hyperprior.weight", 4)[0]
    layers = {name.split(".")[3] for name in weights if name.startswith("tca.TCA.layers.")}
    return (
        shape("h_mean_s.0.subpel_conv.0.weight", 4)[1],
        shape("h_mean_s.0.conv.weight", 4)[0],
        4 * shape(bias_table, 2)[1],
        latent,
        latent // max(slice_channels, 1),
        shape("tca.TCA.lift.weight", 4)[0] // max(latent, 1),
        len(layers),
    )


def _float32(name: str, value: Array) -> np.ndarray:
    if arrays.dtype(value) != "float32":
        raise ValueError(f"{name} is {value.dtype}; the exact engine takes float32 weights")
    return arrays.to_numpy(value)


def _scaled(operation: np.ufunc, x: np.ndarray, step: float) -> np.ndarray:
    """x times or by the step, one IEEE operation for each number: by numpy, in this thread, as
    torch's threads have float environments of their own."""
    if step == 1:
        return x
    with native.default_float_environment():
        return operation(x, np.float32(step))


def _available_processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _end(end, handle: ctypes.c_void_p, engine: ExactEngine) -> None:
    """Ends a picture; holding the engine until here keeps it alive for that."""
    end(handle)


class _Functions:
    """The engine's C functions in the CPU or the CUDA library."""

    def __init__(self, cuda: bool):
        self._library = native.cuda_library() if cuda else native.library()
        self._prefix = "flic_exact_cuda_" if cuda else "flic_exact_"

    def get(self, name: str):
        return getattr(self._library, self._prefix + name)

    def call(self, name: str, what: str, *arguments) -> None:
        """Calls a function; raises what its status stands for, `what` first in the message."""
        status = self.get(name)(*arguments)
        if status:
            native.check(status, f"{what}: {self.get('error')().decode()}")
