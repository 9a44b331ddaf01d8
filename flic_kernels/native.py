"""The native library: loading, pointers, statuses and the choice of instruction set.

The library is plain C behind ctypes: it never sees torch, and ctypes releases the GIL for the
length of every call. Nothing here imports torch.
"""

from __future__ import annotations

import ctypes
import functools
import os
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from . import arrays, interface

MAX_THREADS = 256
"""That the library computes with."""
_FOLDER = Path(__file__).resolve().parent
_ISA_NAMES = ("scalar", "avx2", "avx512")
_BFLOAT16_NAMES = ("widened", "avx512_bf16", "amx")
_CORRUPT = {  # a rANS stream
    "CORRUPT_HEADER": "malformed header",
    "CORRUPT_STATES": "malformed lane states",
    "CORRUPT_WORDS": "the words run out",
    "CORRUPT_ESCAPE": "an escape is malformed or missing",
    "CORRUPT_END": "wrong end state or data left over",
    "CORRUPT_PULLS": "more or fewer pulls than pushes",
}
_FAILURES = {
    "BAD_ARGUMENT": (ValueError, "bad argument"),
    "OUT_OF_MEMORY": (MemoryError, "out of memory"),
    "NOT_FINITE": (ValueError, "NaN or infinity where a finite number is needed"),
    "BAD_INDEX": (IndexError, "table index outside the tables"),
    "NO_SUCH_ISA": (RuntimeError, "this machine lacks the instruction set"),
    "BAD_TABLES": (ValueError, "frequencies that do not form tables"),
    "CUDA_ERROR": (RuntimeError, "the CUDA kernel could not be launched"),
}


class CorruptStream(ValueError):
    """A coded stream that cannot be what an encoder wrote for these tables and indexes."""


class NativeLibraryMissing(ImportError):
    """A native library has not been built, cannot be loaded or is from another version."""


def check(status: int, what: str) -> None:
    """Raises the exception that a C function's status stands for; 0 is success.

    what: the operation, named at the front of the message.
    """
    if status == 0:
        return
    name = {value: name for name, value in interface.statuses().items()}.get(status)
    if name in _CORRUPT:
        raise CorruptStream(f"{what}: {_CORRUPT[name]}")
    kind, message = _FAILURES.get(name, (RuntimeError, f"unknown status {status}"))
    raise kind(f"{what}: {message}")


@functools.cache
def library() -> ctypes.CDLL:
    """The CPU library, loaded on first use. Raises NativeLibraryMissing where it cannot be."""
    loaded = _load("libflic_kernels.so", "run `pip install .` or `make build`")
    _share_threads(loaded)
    return loaded


def share_threads() -> None:
    """What loading the library does for torch, where torch was imported after that."""
    if library.cache_info().currsize:
        _share_threads(library())


def _share_threads(loaded: ctypes.CDLL) -> None:
    """Let the library compute on the threads of PyTorch's OpenMP, where it is built with one.

    They wait for PyTorch's next operation by spinning; beside threads of the library's own they
    would hold a core each (2 cores: a training step takes 1.4 times as long).
    """
    torch = arrays.torch_module()
    if torch is None:
        return
    _one_thread_in_children()
    try:
        linked = ctypes.CDLL(torch._C.__file__)  # finds what PyTorch itself is linked with
        parallel, most = linked.GOMP_parallel, linked.omp_get_max_threads
    except (OSError, AttributeError):
        return
    pointers = (ctypes.cast(function, ctypes.c_void_p) for function in (parallel, most))
    loaded.flic_share_threads(*pointers)


@functools.cache
def _one_thread_in_children() -> None:
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_one_thread)


def _one_thread() -> None:
    """In a forked child: PyTorch's OpenMP would wait for ever for the parent's threads.

    torch.utils.data does the same in its workers.
    """
    arrays.torch_module().set_num_threads(1)


@functools.cache
def cuda_library() -> ctypes.CDLL:
    """The CUDA library. Raises NativeLibraryMissing where it was not built (no nvcc then)."""
    return _load(
        "libflic_kernels_cuda.so",
        "run `pip install .` or `make build` where nvcc is found",
    )


def entropy_backends() -> dict[str, dict[str, str]]:
    """What codes on each device, in the form of `flic_kernels.backends()`.

    exact_engine: for a model on that device (the CPU stands in for CUDA, with the same files).
    rans: for tensors on that device. The instruction set in use stands for the CPU.
    """
    try:
        cpu = isa()
        stand_in = f"cpu {cpu}"
    except NativeLibraryMissing:
        cpu, stand_in = "none (native library not built)", "none"
    try:
        cuda_library()
        engine = rans = "cuda"
    except NativeLibraryMissing:
        engine, rans = (f"{name} (CUDA part not built)" for name in (stand_in, "none"))
    return {
        "exact_engine": {"cpu": cpu, "cuda": engine},
        "rans": {"cpu": cpu, "cuda": rans},
    }


def _load(name: str, advice: str) -> ctypes.CDLL:
    path = _FOLDER / name
    if not path.exists():
        raise NativeLibraryMissing(f"the native library {name} is not built: {advice}")
    try:
        loaded = interface.declared(ctypes.CDLL(str(path)))
    except OSError as error:
        raise NativeLibraryMissing(f"{name} cannot be loaded ({error}): {advice}") from error
    if not hasattr(loaded, "flic_abi") or loaded.flic_abi() != interface.checksum():
        raise NativeLibraryMissing(f"{name} is from another version of flic_kernels: {advice}")
    return loaded


def pointer(array: arrays.Array) -> ctypes.c_void_p:
    """The address of a contiguous CPU (or, for the CUDA library, device) array's data.

    The caller keeps the array alive during the call.
    """
    if arrays.is_tensor(array):
        if not array.is_contiguous():
            raise ValueError("a contiguous tensor is needed")
        return ctypes.c_void_p(array.data_ptr())
    if not array.flags.c_contiguous:
        raise ValueError("a contiguous array is needed")
    return ctypes.c_void_p(array.ctypes.data)


def free_with(owner: object, free: Callable, *arguments: object) -> None:
    """Calls free(*arguments) when `owner` is gone.

    Not when the interpreter ends: daemon threads may be inside the library then, and all memory
    goes back to the system anyway.
    """
    weakref.finalize(owner, free, *arguments).atexit = False


def take_bytes(handle: ctypes.c_void_p) -> bytes:
    """The content of a byte buffer that the library made, which is freed."""
    native = library()
    try:
        return ctypes.string_at(
            native.flic_rans_bytes_data(handle), native.flic_rans_bytes_size(handle)
        )
    finally:
        native.flic_rans_bytes_free(handle)


def isa() -> str:
    """The instruction set in use: "scalar", "avx2" or "avx512"."""
    return _ISA_NAMES[library().flic_isa()]


def available_isas() -> tuple[str, ...]:
    """The instruction sets this machine can run, from the plainest up."""
    return _ISA_NAMES[: library().flic_isa_best() + 1]


@contextmanager
def use_isa(name: str | None) -> Iterator[None]:
    """Forces an instruction set inside a `with` block, for the whole process; None detects it.

    Raises ValueError for an unknown name and RuntimeError where the machine lacks it.
    """
    if name is not None and name not in _ISA_NAMES:
        raise ValueError(f"unknown instruction set {name!r}: one of {', '.join(_ISA_NAMES)}")
    native = library()
    before = native.flic_forced_isa()
    level = -1 if name is None else _ISA_NAMES.index(name)
    check(native.flic_set_isa(level), f"instruction set {name}")
    try:
        yield
    finally:
        native.flic_set_isa(before)


def bfloat16_isa() -> str:
    """How bfloat16 products are computed: "widened" (to float32), "avx512_bf16" or "amx"."""
    return _BFLOAT16_NAMES[library().flic_bfloat16_isa()]


def available_bfloat16_isas() -> tuple[str, ...]:
    """The ways that this machine has, from the plainest up."""
    return _BFLOAT16_NAMES[: library().flic_bfloat16_isa_best() + 1]


@contextmanager
def use_bfloat16_isa(name: str | None) -> Iterator[None]:
    """Forces how bfloat16 products are computed inside a `with` block, for the whole process.

    None detects the best. Another instruction set than AVX-512 (`use_isa`) widens in any case.
    Raises ValueError for an unknown name and RuntimeError where the machine lacks it.
    """
    if name is not None and name not in _BFLOAT16_NAMES:
        raise ValueError(f"unknown instructions {name!r}: one of {', '.join(_BFLOAT16_NAMES)}")
    native = library()
    before = native.flic_forced_bfloat16_isa()
    level = -1 if name is None else _BFLOAT16_NAMES.index(name)
    check(native.flic_set_bfloat16_isa(level), f"bfloat16 products by {name}")
    try:
        yield
    finally:
        native.flic_set_bfloat16_isa(before)


@contextmanager
def default_float_environment() -> Iterator[None]:
    """Round to nearest and no flush-to-zero inside a `with` block, for the calling thread.

    What this library computes sets that by itself; this is for arithmetic beside it on which two
    machines must agree, since other libraries change the mode of the threads they run in.
    """
    with float_environment(library().flic_default_float_environment()):
        yield


@contextmanager
def float_environment(mode: int) -> Iterator[None]:
    """A mode of the processor (x86 MXCSR, aarch64 FPCR) inside a `with` block, for this thread."""
    native = library()
    before = native.flic_exchange_float_environment(mode)
    try:
        yield
    finally:
        native.flic_exchange_float_environment(before)


_threads: int | None = None  # what set_threads says; for the whole process, as torch's number is


def threads() -> int:
    """How many threads what is computed shares: torch's number where torch is loaded."""
    torch = sys.modules.get("torch")
    if torch is not None:
        return torch.get_num_threads()
    if _threads is not None:
        return _threads
    asked = os.environ.get("OMP_NUM_THREADS", "")  # OpenMP's own, which torch heeds
    if asked.isdecimal() and int(asked) > 0:
        return int(asked)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_threads(count: int) -> None:
    """For this process, and for torch where it is loaded."""
    global _threads
    _threads = count
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(count)


_watching = False  # in the main thread, inside an outer `interruptible`


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C, or SIGTERM, ends what the library computes inside a `with` block within milliseconds;
    then the program's own handler of it runs, or KeyboardInterrupt is raised.

    Python runs handlers between its own instructions, and a call into the library is one of them.
    In the main thread alone, and where nothing else listens to signals (asyncio, say).
    """
    global _watching
    loaded = library()
    if threading.current_thread() is not threading.main_thread() or _watching:
        yield
        return
    read, write = os.pipe()
    for end in (read, write):
        os.set_blocking(end, False)
    before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    if before != -1:
        signal.set_wakeup_fd(before)
    try:
        loaded.flic_watch(read if before == -1 else -1)
        _watching = True
        try:
            yield
        except Exception:
            if loaded.flic_stopped():  # it failed on what was left undone
                raise KeyboardInterrupt from None
            raise
        if loaded.flic_stopped():
            raise KeyboardInterrupt
    finally:
        _watching = False
        loaded.flic_watch(-1)
        if before == -1:
            signal.set_wakeup_fd(-1)
        os.close(read)
        os.close(write)
