"""A task for workers that takes no torch and does what a file's name says."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import flic
from flic.cli.tasks import Task
from flic.cli.workers import Job


@dataclass(frozen=True)
class Fake(Task):
    """Gives the source's name and the worker's process; some names do other things. No torch."""

    in_threads = False

    def __call__(self, source, suffix, progress):
        if source.name == "bad":
            raise flic.PictureError(f"{source}: broken")
        if source.name == "kill":
            wait_for(lambda: not (source.parent / "wait").exists())
            os.kill(os.getpid(), signal.SIGKILL)
        if source.name == "kill once" and not (seen := source.parent / "seen").exists():
            seen.write_bytes(b"")
            os.kill(os.getpid(), signal.SIGKILL)
        if source.name == "log":
            with (source.parent / "log.txt").open("a") as file:
                file.write("done\n")
        if source.name == "sleep":
            time.sleep(600)
        numbers = {"width": 1000, "height": 10, "bytes": 8, "bpp": 0.0064, "pid": os.getpid()}
        return source.name.encode() + suffix.encode(), numbers


class InThreads(Fake):
    in_threads = True


FAKE = Fake(None, None, "cpu", "float32", None)
IN_THREADS = InThreads(None, None, "cpu", "float32", None)


def jobs(*names: str) -> list[Job]:
    return [Job(Path(name), Path(name + ".flic")) for name in names]


def wait_for(condition) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
