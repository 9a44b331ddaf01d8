"""Tasks on many files: one after the other, or shared among threads or worker processes.

Threads where the C library codes, on one loaded model; processes where torch does. Either only
computes; what they make is written by the main thread alone, so that they can be ended at any
moment and leave nothing behind. What shares work out is imported when there is some to share.
"""

import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..coding.request import silent
from ..errors import FlicError
from . import common
from .tasks import Task

if TYPE_CHECKING:
    import ctypes

PICTURES_A_WORKER = 2
"""Where there are fewer pictures than cores: a process that does one does not earn the seconds that
it takes to start."""


class Job(NamedTuple):
    source: Path
    target: Path


Outcome = tuple[bytes, dict] | Exception
"""What a task returns, or what it raises."""


def share(
    count: int,
    jobs: int | None,
    threads: int | None,
    device: str,
    needs: Callable[[], int] = lambda: 0,
    in_threads: bool = False,
) -> tuple[int, int | None]:
    """How many workers do `count` files, and with how many threads each (None: torch's default).

    Left to itself (jobs None), on a CPU: one worker a core, of one thread, as soon as there are as
    many files as cores; for fewer files a worker for every two, which share the cores' threads,
    or, `in_threads`, for each. With `threads`, as many cores count as one. No more workers than
    find room in the memory that is available now, where each takes `needs()` bytes, and always one.
    Not on a GPU: one.

    jobs, threads: what the user says, and gets, or None.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if jobs is None:
        files = count if in_threads else count // PICTURES_A_WORKER
        jobs = _workers(count, files, cores // (threads or 1), needs) if device == "cpu" else 1
    jobs = max(1, min(jobs, count))
    if threads is None and jobs > 1:
        threads = max(1, cores // jobs)
    return jobs, threads


def _workers(count: int, most: int, places: int, needs: Callable[[], int]) -> int:
    """Workers for `count` files where `places` can work at a time, `most` if these are fewer; may
    be 0."""
    from ..coding import limits

    workers = places if count >= places else most
    memory = limits.available_memory() if workers > 1 else None
    return workers if memory is None else min(workers, memory // max(1, needs()))


def outcomes(task: Task, jobs: list[Job], workers: int) -> Iterator[tuple[Job, Outcome]]:
    """Each job with what came of it, as they are done; with one worker, in order and here."""
    if workers > 1 and task.in_threads:
        yield from _threads(task, jobs, workers)
    elif workers > 1:
        yield from _shared(task, jobs, workers)
    else:
        for job in jobs:
            yield job, _outcome(task, job)


def _outcome(task: Task, job: Job) -> Outcome:
    try:
        return task(job.source, job.target.suffix, silent)
    except Exception as error:  # whatever is wrong with one file, the others go on
        return error


def _threads(task: Task, jobs: list[Job], workers: int) -> Iterator[tuple[Job, Outcome]]:
    """As `outcomes`. Whatever ends this ends what the threads compute, within milliseconds."""
    from concurrent.futures import ThreadPoolExecutor, as_completed

    from ..coding import native_coder

    pool = ThreadPoolExecutor(workers)
    try:
        futures = {pool.submit(_outcome, task, job): job for job in jobs}
        for future in as_completed(futures):
            yield futures.pop(future), future.result()
    finally:
        with native_coder.stopped():
            pool.shutdown(cancel_futures=True)


def _shared(task: Task, jobs: list[Job], workers: int) -> Iterator[tuple[Job, Outcome]]:
    """As `outcomes`. When a worker is killed, which ends all of them, what they were at is done
    again alone, and the rest goes on: with half the workers where no file alone was at fault, since
    then it was together that they took too much memory."""
    while jobs:
        at, jobs = yield from _pool(task, jobs, workers)
        if not at and jobs and workers == 1:
            raise FlicError(
                "a worker process was ended as it began, perhaps for lack of memory: try --jobs 1"
            )
        failed = yield from _alone(task, at)
        if jobs and not failed:
            workers = max(1, workers // 2)


def _alone(task: Task, jobs: list[Job]) -> Generator[tuple[Job, Outcome], None, int]:
    """Each job with nothing beside it; returns how many workers were killed once more."""
    failed = 0
    for job in jobs:
        at, rest = yield from _pool(task, [job], 1)
        if at or rest:
            failed += 1
            text = "its worker was killed, alone too: perhaps it takes more memory than there is"
            yield job, FlicError(text)
    return failed


def _pool(
    task: Task, jobs: list[Job], workers: int
) -> Generator[tuple[Job, Outcome], None, tuple[list[Job], list[Job]]]:
    """Jobs with what came of them, up to the end or until a worker is killed.

    Returns the jobs that were being worked on then, and those that nobody had begun.
    """
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from concurrent.futures.process import BrokenProcessPool

    context = multiprocessing.get_context("spawn")  # a fork would hang in torch's thread pools
    begun = context.RawArray("b", len(jobs))  # each set by the worker that takes the job
    left = dict(enumerate(jobs))
    with ProcessPoolExecutor(min(workers, len(jobs)), context, _begin, (task, begun)) as pool:
        try:
            futures = {}
            with _no_interrupts():  # inherited: Ctrl-C is for this process, which ends the workers
                with suppress(BrokenProcessPool):  # a worker may be killed before all are handed in
                    for i, job in left.items():
                        futures[pool.submit(_do, i, job.source, job.target.suffix)] = i
            for future in as_completed(futures):
                error = future.exception()
                if not isinstance(error, BrokenProcessPool):
                    yield left.pop(futures.pop(future)), error or future.result()
        except BaseException:
            for worker in multiprocessing.active_children():
                worker.terminate()
            pool.shutdown(cancel_futures=True)
            raise
    return (
        [job for i, job in left.items() if begun[i]],
        [job for i, job in left.items() if not begun[i]],
    )


@contextmanager
def _no_interrupts() -> Iterator[None]:
    """Ctrl-C waits until the end of this block."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_task: Task
_begun: "ctypes.Array"


def _begin(task: Task, begun: "ctypes.Array") -> None:
    """In a worker: keep the task, and end when the program does, however it ends."""
    import multiprocessing

    global _task, _begun
    _task, _begun = task, begun
    common.ignore_announcements()
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def _do(i: int, source: Path, suffix: str) -> tuple[bytes, dict]:
    _begun[i] = True
    return _task(source, suffix, silent)
