"""Tasks on many files: one after the other here, or shared among worker processes.

Workers only compute; what they make is written by this process alone, so that they can be ended at
any moment and leave nothing behind.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from ..errors import FlicError
from . import common
from .tasks import Task

PICTURES_A_WORKER = 4
"""A worker that does fewer does not earn the seconds that it takes to start."""


class Job(NamedTuple):
    source: Path
    target: Path


Outcome = tuple[bytes, dict] | Exception
"""What a task returns, or what it raises."""


def share(count: int, jobs: int | None, threads: int | None, device: str) -> tuple[int, int | None]:
    """How many workers do `count` files, and with how many threads each (None: torch's default).

    One picture a core is faster than all cores on one picture (`python -m benches.folders`), but
    for few pictures, and not on a GPU. jobs, threads: what the user says, or None.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if jobs is None:
        jobs = min(cores // (threads or 1), count // PICTURES_A_WORKER) if device == "cpu" else 1
    jobs = max(1, min(jobs, count))
    if threads is None and jobs > 1:
        threads = max(1, cores // jobs)
    return jobs, threads


def outcomes(task: Task, jobs: list[Job], workers: int) -> Iterator[tuple[Job, Outcome]]:
    """Each job with what came of it, as they are done; with one worker, in order and here."""
    if workers > 1:
        yield from _shared(task, jobs, workers)
        return
    for job in jobs:
        try:
            outcome = task(job.source, job.target.suffix, _silent)
        except Exception as error:  # whatever is wrong with one file, the others go on
            outcome = error
        yield job, outcome


def _shared(task: Task, jobs: list[Job], workers: int) -> Iterator[tuple[Job, Outcome]]:
    context = multiprocessing.get_context("spawn")  # a fork would hang in torch's thread pools
    with ProcessPoolExecutor(workers, context, _begin, (task,)) as pool:
        try:
            with _no_interrupts():  # inherited: Ctrl-C is for this process, which ends the workers
                futures = {pool.submit(_do, job.source, job.target.suffix): job for job in jobs}
            for future in as_completed(futures):
                error = future.exception()
                if isinstance(error, BrokenProcessPool):
                    raise FlicError(
                        "a worker process was ended, perhaps for lack of memory: try fewer --jobs"
                    )
                yield futures.pop(future), error or future.result()
        except BaseException:
            for worker in multiprocessing.active_children():
                worker.terminate()
            pool.shutdown(cancel_futures=True)
            raise


@contextmanager
def _no_interrupts() -> Iterator[None]:
    """Ctrl-C waits until the end of this block."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_task: Task


def _begin(task: Task) -> None:
    """In a worker: keep the task, and end when the program does, however it ends."""
    global _task
    _task = task
    common.ignore_announcements()
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def _do(source: Path, suffix: str) -> tuple[bytes, dict]:
    return _task(source, suffix, _silent)


def _silent(done: int, steps: int) -> None:
    pass
