"""Coding in several threads, when the interpreter ends and when the process forks.

A daemon thread is ended wherever it is when the interpreter ends; inside PyTorch's C++ code that
aborts the process. So the end waits for the calls in course, and calls that other threads begin
afterwards never return, as it is with daemon threads then.
"""

import atexit
import functools
import os
import threading
from collections.abc import Callable


class _Calls:
    """How many calls are in course, in this process."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running = 0
        self._ending: int | None = None  # the thread that ends the interpreter

    def begin(self) -> None:
        with self._changed:
            while self._ending not in (None, threading.get_ident()):
                self._changed.wait()
            self._running += 1

    def finish(self) -> None:
        with self._changed:
            self._running -= 1
            self._changed.notify_all()

    def end(self) -> None:
        with self._changed:
            self._ending = threading.get_ident()
            self._changed.wait_for(lambda: not self._running)


_calls = _Calls()


def _start_anew() -> None:
    """In a forked child: the calls of the parent's other threads are not in course here."""
    global _calls
    _calls = _Calls()


atexit.register(lambda: _calls.end())
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)


def ends_before_exit(function: Callable) -> Callable:
    """The interpreter does not end while the function runs in some thread."""

    @functools.wraps(function)
    def call(*args, **kwargs):
        calls = _calls
        calls.begin()
        try:
            return function(*args, **kwargs)
        finally:
            calls.finish()

    return call
