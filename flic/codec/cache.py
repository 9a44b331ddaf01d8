"""Codecs kept between calls, for interfaces that name a model, or a file, at every call.

Safe to use from several threads.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ModelNotFoundError
from ..model import library
from .codec import Codec
from .opening import open_codec

if TYPE_CHECKING:
    from ..model.network import FLIC

MOST = 4
"""Models that are kept loaded, the most recently used ones; those of `add` aside."""

_lock = threading.Lock()
_loaded: OrderedDict[tuple, Codec] = OrderedDict()  # by file, its size and its time
_added: dict[str, Codec] = {}  # by fingerprint


def add(model: FLIC | str | os.PathLike) -> str:
    """Make a model known, so that files made with it open; gives its fingerprint.

    For models that are neither built in nor in the user's model folder.
    """
    codec = for_encoding(model)
    with _lock:
        _added[codec.fingerprint.hex()] = codec
    return codec.fingerprint.hex()


def for_encoding(model: FLIC | str | os.PathLike | None = None) -> Codec:
    """The codec of a model: a FLIC, a name, a checkpoint's path; default: the built-in default.

    Raises ModelNotFoundError, CheckpointError.
    """
    if model is None or isinstance(model, (str, os.PathLike)):
        return _load(library.locate(model))
    return Codec(model)


def for_file(fingerprint: bytes) -> Codec:
    """The codec of the model that a file's header names; raises ModelNotFoundError."""
    with _lock:
        added = _added.get(fingerprint.hex())
    return added or _load(library.find(fingerprint.hex()).path)


def _load(path: Path) -> Codec:
    try:
        stat = path.stat()
    except OSError as error:
        raise ModelNotFoundError(f"{path}: {error.strerror or error}") from error
    key = (path, stat.st_size, stat.st_mtime_ns)
    with _lock:
        if key not in _loaded:
            _loaded[key] = open_codec(path)
            while len(_loaded) > MOST:
                _loaded.popitem(last=False)
        _loaded.move_to_end(key)
        return _loaded[key]


def _unlock() -> None:
    """In a forked child: whatever the parent's other threads were at."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock)
