"""Signals that end a search or a training where it is, not the command."""

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import typer


class Stop:
    """Whether a signal has asked for it; `number` is that signal's, 0 before."""

    def __init__(self, what: str):
        self.number = 0
        self._what, self._told = what, False

    def __call__(self) -> bool:
        if self.number and not self._told:  # not in the handler, which may meet a write to stderr
            self._told = True
            again = "; Ctrl-C again stops" if self.number == signal.SIGINT else ""
            typer.echo(f"flic: {self._what}{again}", err=True)
        return bool(self.number)

    def handle(self, number: int, frame: object) -> None:
        if number == signal.SIGINT and self.number:
            raise KeyboardInterrupt
        self.number = self.number or number


@contextmanager
def deferred(what: str, *others: int) -> Iterator[Stop]:
    """Gives what says whether Ctrl-C has been pressed; inside, only the second one interrupts.

    In the main thread. Where SIGINT has another handler, or is ignored, that stays. what: happens
    then, for stderr. others: signals besides that ask for it.
    """
    stop = Stop(what)
    own = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    numbers = (signal.SIGINT, *others) if own else others
    if not numbers:
        yield stop
        return
    # With a listener of its own the native library leaves its computations alone
    # (`flic_kernels.native.interruptible`).
    read, write = socket.socketpair()
    with read, write:
        write.setblocking(False)
        listener = signal.set_wakeup_fd(write.fileno(), warn_on_full_buffer=False)
        before = {number: signal.signal(number, stop.handle) for number in numbers}
        try:
            yield stop
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(listener)
