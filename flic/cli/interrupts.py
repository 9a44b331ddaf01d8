"""Ctrl-C that ends a search, not the command."""

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

from ..coding.request import never


@contextmanager
def deferred() -> Iterator[Callable[[], bool]]:
    """Gives what says whether Ctrl-C has been pressed; inside, only the second one interrupts.

    In the main thread; where SIGINT has another handler, or is ignored, that stays.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield never
        return
    pressed = told = False

    def press(number: int, frame: object) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True

    def enough() -> bool:
        nonlocal told
        if pressed and not told:
            told = True
            typer.echo("flic: keeping what has been reached; Ctrl-C again stops", err=True)
        return pressed

    # With a listener of its own the native library leaves its computations alone
    # (`flic_kernels.native.interruptible`).
    read, write = socket.socketpair()
    with read, write:
        write.setblocking(False)
        before = signal.set_wakeup_fd(write.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGINT, press)
        try:
            yield enough
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.set_wakeup_fd(before)
