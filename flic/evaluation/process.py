"""The coding process: it codes pictures and nothing else, so its time and memory are the codec's.

Reading pictures and computing metrics is done by the process that starts it, meanwhile it waits.
"""

from __future__ import annotations

import multiprocessing
import signal
import warnings
from multiprocessing.connection import Connection

from ..errors import FlicError
from ..pictures.images import Picture
from . import meter
from .coders import Coded, ModelCoder, PillowCoder
from .meter import Meter, Step


class CodingProcess:
    """A context in which one coder codes pictures in a process of its own.

    memory_method: how it measures peak memory.
    Raises FlicError: what the coder raises, or that the process died.
    """

    def __init__(self, coder: ModelCoder | PillowCoder) -> None:
        self._coder = coder

    def __enter__(self) -> CodingProcess:
        context = _context(self._coder)
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self._coder), daemon=True)
        self._process.start()
        theirs.close()
        self.memory_method = self._receive()
        return self

    def __exit__(self, *_) -> None:
        self._connection.close()
        self._process.terminate()
        self._process.join()

    def code(self, picture: Picture, setting: float | None = None) -> tuple[Coded, dict[str, Step]]:
        """The picture coded and decoded, and what each step took.

        setting: a model's quantisation step (None: 1), or the quality of another codec.
        """
        self._connection.send((picture, setting))
        return self._receive()

    def _receive(self):
        try:
            answer = self._connection.recv()
        except (EOFError, ConnectionError):
            self._process.join()
            raise FlicError(
                f"the coding process ended with exit code {self._process.exitcode} "
                "(-9: killed, for want of memory perhaps)"
            ) from None
        if isinstance(answer, BaseException):
            raise answer
        return answer


def _context(coder: ModelCoder | PillowCoder):
    """How to start the process, so that it holds what its coder needs and nothing more.

    Models' processes are forked from a server that has imported torch, which takes seconds, and
    computed nothing. Where there is no such server, they import for themselves.
    """
    if (
        isinstance(coder, PillowCoder)
        or "forkserver" not in multiprocessing.get_all_start_methods()
    ):
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["flic.evaluation.preloaded"])
    return context


def _serve(connection: Connection, coder: ModelCoder | PillowCoder) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the other process's to handle
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    warnings.simplefilter("ignore")
    device = getattr(coder, "device", "cpu")
    try:
        coder.open()
        connection.send(meter.method(device))
        while True:
            picture, setting = connection.recv()
            measured = Meter(device)
            connection.send((coder.code(picture, setting, measured), measured.steps))
    except EOFError:
        return
    except Exception as error:  # whatever it is, the other process raises it
        connection.send(error)
