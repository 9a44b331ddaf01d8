"""The rANS coder on CUDA tensors, over batches of pictures: the same bytes as the CPU coder.

Every launch goes to the current stream and none waits for the device: sizes and errors stay there
until finish() or close().
"""

import contextlib
import ctypes
import weakref
from collections.abc import Sequence

import numpy as np
import torch

from flic_kernels import interface, native
from flic_kernels.cuda import is_cuda as is_cuda
from flic_kernels.cuda import stream as _stream

from .tables import Tables

_MAX_LANES = _MAX_GROUPS = 32
_PAYLOAD_PER_LANE = 128  # csrc/rans/stream.h, as is the next
_SYMBOLS_PER_GROUP = 1 << 20
_PADDING = 64

_RECORD = np.dtype(interface.structure("FlicGroupRecord"))
_View = interface.structure("FlicTablesView")
_Push = interface.structure("FlicWarpPush")
_Grid = interface.structure("FlicGaussianGrid")
# Two threads may both upload; the copies are equal, and one stays.
_uploads: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def _upload(array: np.ndarray, device: torch.device) -> torch.Tensor:
    return torch.from_numpy(np.array(array)).to(device)


def _device_tables(tables: Tables, device: torch.device) -> tuple[_View, _Grid | None]:
    """The tables' arrays on a device, copied once."""
    copies = _uploads.setdefault(tables, {})
    if device not in copies:
        host, sizes = _View(), (ctypes.c_int64 * 5)()
        status = native.library().flic_rans_tables_arrays(tables.handle, ctypes.byref(host), sizes)
        native.check(status, "rANS tables")
        view, kept = _View(count=host.count), []
        for (name, _), size in zip(_View._fields_[:5], sizes, strict=True):
            data = ctypes.string_at(getattr(host, name), size)
            kept.append(_upload(np.frombuffer(data, np.uint8), device))
            setattr(view, name, kept[-1].data_ptr())
        grid = None
        if tables.cells is not None:
            # uint16 tensors are rarely supported: the kernel reads the bytes.
            arrays = (tables.row_first, tables.row_size, tables.cells.view(np.int16))
            kept += [_upload(array, device) for array in arrays]
            grid = _Grid(*(tensor.data_ptr() for tensor in kept[-3:]))
        copies[device] = view, grid, kept
    return copies[device][:2]


def _current(device: torch.device) -> contextlib.AbstractContextManager:
    """Makes a CUDA device the current one: a kernel is launched on that, whatever its stream."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()


def _launch(name: str, what: str, device: torch.device, *arguments) -> None:
    """Calls flic_rans_cuda_`name` with arguments on the device's current stream."""
    with _current(device):
        function = getattr(native.cuda_library(), f"flic_rans_cuda_{name}")
        native.check(function(*arguments, _stream(device)), f"{what} on CUDA")


def gaussian_indexes(
    means: torch.Tensor, scales: torch.Tensor, tables: Tables
) -> tuple[torch.Tensor, torch.Tensor]:
    """rans.gaussian_indexes for contiguous float32 tensors on a device, without waiting for it: NaN
    and infinity give index -1, which the coder refuses when it finishes."""
    _, grid = _device_tables(tables, means.device)
    indexes = torch.empty(means.shape, dtype=torch.int32, device=means.device)
    centers = torch.empty_like(indexes)
    _launch(
        "gaussian_indexes",
        "gaussian_indexes",
        means.device,
        native.pointer(means),
        native.pointer(scales),
        means.numel(),
        ctypes.byref(grid),
        native.pointer(indexes),
        native.pointer(centers),
    )
    return indexes, centers


def _check_indexes(indexes: torch.Tensor) -> None:
    if indexes.dtype not in (torch.int32, torch.uint16):
        raise TypeError(f"rANS coder: indexes of {indexes.dtype}, not int32 or uint16")


class CudaEncoder:
    """Collects pushes of a batch of pictures and codes each picture as a stream.

    lanes, groups: as for rans.Encoder. Memory at finish(): seven bytes a symbol.
    """

    def __init__(self, pictures: int, *, lanes: int | None = None, groups: int | None = None):
        self._pictures, self._lanes, self._groups = pictures, lanes, groups
        self._pushes: list[_Push] = []
        self._kept: list[torch.Tensor | Tables] = []
        self._device: torch.device | None = None

    def push(self, symbols: torch.Tensor, indexes: torch.Tensor, tables: Tables) -> None:
        """symbols (int8, int16, int32), indexes (int32, uint16): contiguous, [pictures, ...].
        Raises TypeError for another dtype and ValueError for another device."""
        if symbols.dtype not in (torch.int8, torch.int16, torch.int32):
            raise TypeError(f"rANS encoder: symbols of {symbols.dtype}")
        _check_indexes(indexes)
        if self._device is None:
            self._device = symbols.device
        if symbols.device != self._device or indexes.device != self._device:
            raise ValueError("rANS encoder: all pushes must be on one device")
        view, _ = _device_tables(tables, self._device)
        self._kept += [symbols, indexes, tables]
        self._pushes.append(
            _Push(
                native.pointer(symbols),
                native.pointer(indexes),
                symbols.numel() // self._pictures,
                view,
                symbols.element_size(),
                indexes.element_size(),
            )
        )

    def finish(self) -> list[bytes]:
        """The pictures' streams; the encoder is empty again, after an error too. The first point
        that waits for the device. Raises IndexError where a table index is out of range."""
        pushes, kept, device = self._pushes, self._kept, self._device
        self._pushes, self._kept, self._device = [], [], None
        job = _EncoderJob(pushes, kept, device or torch.device("cuda"))
        lanes, groups = self._lanes or _MAX_LANES, self._groups or 1
        total = sum(push.count for push in pushes)
        while self._groups is None and groups < _MAX_GROUPS:
            if total // groups < 2 * _SYMBOLS_PER_GROUP:
                break
            groups *= 2
        # A single group's lanes are chosen on the device; where there were more groups at first,
        # both follow from the payload that these gave, and a picture is coded a second time.
        records, buffer = job.encode(
            range(self._pictures), lanes, groups, choose=self._lanes is None and groups == 1
        )
        streams: dict[int, bytes] = {}
        again: dict[tuple[int, int], list[int]] = {}
        done = []
        for picture, mine in enumerate(records):
            chosen = (lanes, groups) if groups == 1 else self._choose(mine, lanes, groups)
            if chosen == (lanes, groups):
                done.append(picture)
            else:
                again.setdefault(chosen, []).append(picture)
        streams |= zip(done, job.streams(records[done], buffer), strict=True)
        del buffer
        for (lanes, groups), pictures in again.items():
            coded = job.streams(*job.encode(pictures, lanes, groups, choose=False))
            streams |= zip(pictures, coded, strict=True)
        return [streams[picture] for picture in range(self._pictures)]

    def _choose(self, records: np.ndarray, lanes: int, groups: int) -> tuple[int, int]:
        """Lanes and groups for a picture that was coded with these: csrc/rans/encoder.cpp's."""
        payload = (records["words_end"] - records["words"]).sum()
        payload += (records["escapes_end"] - records["escapes"]).sum()
        while self._groups is None and groups > 1 and payload < _PAYLOAD_PER_LANE * lanes * groups:
            groups //= 2
        while (
            self._lanes is None
            and groups == 1
            and lanes > 1
            and payload < _PAYLOAD_PER_LANE * lanes
        ):
            lanes //= 2
        return lanes, groups


class _EncoderJob:
    """The pushes of a batch on their way to streams."""

    def __init__(self, pushes: list[_Push], kept: list, device: torch.device):
        self._device, self._pushes = device, pushes
        self._kept = kept  # what the pushes point to
        array = (_Push * max(1, len(pushes)))(*pushes)
        self._on_device = _upload(np.frombuffer(bytes(array), np.uint8), device)

    def encode(
        self, pictures: Sequence[int], lanes: int, groups: int, *, choose: bool
    ) -> tuple[np.ndarray, torch.Tensor]:
        """Codes pictures; their records [pictures, groups], on the host, and the buffer, on the
        device. choose: let the payload lower the lanes."""
        records = np.zeros((len(pictures), groups), _RECORD)
        records["picture"] = np.array(pictures, np.int32)[:, None]
        records["group"] = np.arange(groups)
        records["groups"] = groups
        records["lanes"] = lanes
        symbols = np.zeros(groups, np.int64)
        for push in self._pushes:
            size = (push.count + groups - 1) // groups
            size = (size + _MAX_LANES - 1) // _MAX_LANES * _MAX_LANES
            symbols += np.diff(np.minimum(np.arange(groups + 1) * size, push.count))
        words = np.tile(2 * symbols + 2 * _MAX_LANES, (len(pictures), 1))
        escapes = np.tile(5 * symbols, (len(pictures), 1))
        ends = np.cumsum(words + escapes).reshape(records.shape)
        records["words_end"] = ends - escapes
        records["escapes_end"] = ends
        size = int(ends.max(initial=0)) + _PADDING
        buffer = torch.empty(size, dtype=torch.uint8, device=self._device)
        if records.size == 0:
            return records, buffer
        on_device = _upload(records.reshape(-1).view(np.uint8), self._device)
        _launch(
            "encode",
            "rANS encoder",
            self._device,
            native.pointer(on_device),
            records.size,
            native.pointer(self._on_device),
            len(self._pushes),
            native.pointer(buffer),
            int(choose),
        )
        records = on_device.cpu().numpy().view(_RECORD).reshape(records.shape)
        for status in records["status"].flat:
            native.check(int(status), "rANS encoder on CUDA")
        return records, buffer

    def streams(self, records: np.ndarray, buffer: torch.Tensor) -> list[bytes]:
        """The streams of records [pictures, groups], whose data the device sends in one piece."""
        records = records.copy()
        pieces, at = [], 0
        for record in records.reshape(-1):
            for name in ("words", "escapes"):
                begin, end = int(record[name]), int(record[name + "_end"])
                pieces.append(buffer[begin:end])
                record[name], record[name + "_end"] = at, at + end - begin
                at += end - begin
        data = torch.cat([*pieces, buffer[:1]]).cpu()
        return [self._close(mine, data) for mine in records]

    def _close(self, records: np.ndarray, data: torch.Tensor) -> bytes:
        stream = ctypes.c_void_p()
        status = native.library().flic_rans_records_close(
            native.pointer(records),
            len(records),
            len(self._pushes),
            native.pointer(data),
            ctypes.byref(stream),
        )
        native.check(status, "rANS encoder on CUDA")
        return native.take_bytes(stream)


class CudaDecoder:
    """Reads a batch of streams back, pull by pull, on a device."""

    def __init__(self, streams: Sequence[bytes], device: torch.device):
        self._pictures = len(streams)
        library = native.library()
        opened, base = [], 0
        for picture, data in enumerate(streams):
            records = np.zeros(_MAX_GROUPS, _RECORD)
            groups = ctypes.c_int()
            status = library.flic_rans_records_open(
                bytes(data),
                len(data),
                picture,
                base,
                native.pointer(records),
                ctypes.byref(groups),
            )
            native.check(status, f"rANS decoder, picture {picture}")
            opened.append(records[: groups.value])
            base += len(data)
        records = np.concatenate(opened)
        self._count = len(records)
        self._records = _upload(records.view(np.uint8), device)
        data = b"".join(streams) + bytes(_PADDING)
        self._data = _upload(np.frombuffer(data, np.uint8), device)
        self._device = self._data.device  # with its number, which `device` may lack

    def pull(self, indexes: torch.Tensor, tables: Tables) -> torch.Tensor:
        """The next push's symbols, int32, of the shape of indexes: contiguous, [pictures, ...].
        After a failure, which only close() reports, they are zeros or wrong."""
        _check_indexes(indexes)
        if indexes.device != self._device or indexes.shape[:1] != (self._pictures,):
            raise ValueError("rANS decoder: indexes must be [pictures, ...] on its device")
        view, _ = _device_tables(tables, self._device)
        symbols = torch.zeros(indexes.shape, dtype=torch.int32, device=self._device)
        push = _Push(
            None,
            native.pointer(indexes),
            indexes.numel() // self._pictures,
            view,
            0,
            indexes.element_size(),
        )
        _launch(
            "decode",
            "rANS decoder",
            self._device,
            native.pointer(self._records),
            self._count,
            ctypes.byref(push),
            native.pointer(self._data),
            native.pointer(symbols),
        )
        return symbols

    def close(self) -> None:
        """Waits for the device and raises what went wrong, in the first picture where it did."""
        records = native.pointer(self._records)
        _launch("close", "rANS decoder", self._device, records, self._count)
        for record in self._records.cpu().numpy().view(_RECORD):
            native.check(int(record["status"]), f"rANS decoder, picture {record['picture']}")
