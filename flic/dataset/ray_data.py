"""Sharing a data set among Ray's workers: actors of Ray Data, one thread and one model each."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator

from ..errors import FlicError
from .manifest import Result
from .work import Job, Task, Worker

_STORE = 100 << 20  # bytes of the object store of a Ray made here: jobs and records are small
_MOST_IN_BLOCK = 16  # pictures that are handed out together


class _Actor:
    """A worker with Ray Data's face: rows of JSON, since Arrow takes no undecodable file names."""

    def __init__(self, task: Task) -> None:
        self._worker, self._stop = None, ""
        try:
            self._worker = Worker(task)
        except FlicError as error:  # told with the first picture: Ray would start the actor again
            self._stop = str(error)

    def __call__(self, row: dict) -> dict:
        result = ""
        if self._worker is not None:
            try:
                result = self._worker(Job(*json.loads(row["job"]))).to_json()
            except FlicError as error:
                self._stop = str(error)
        return {"result": result, "stop": self._stop}


def run(
    jobs: list[Job], task: Task, *, workers: int | None = None, address: str | None = None
) -> Iterator[Result]:
    """The results, in any order, as they come.

    workers: number of actors; default: one for each CPU that Ray has. address: of a Ray cluster;
    default: the one that Ray knows of (RAY_ADDRESS), else one made here and stopped at the end.
    Raises FlicError: Ray is not installed, cannot be reached or fails; the model cannot be loaded;
    a file cannot be written.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise FlicError(f"--ray needs Ray: pip install 'flic-kernels[ray]' ({error})") from error
    ours = not ray.is_initialized()
    if ours:
        _start(ray, workers, address)
    try:
        cpus = int(ray.cluster_resources().get("CPU", 1))
        workers = min(workers or cpus, len(jobs))
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        blocks = max(min(len(jobs), 4 * workers), -(-len(jobs) // _MOST_IN_BLOCK))
        rows = ray.data.from_items(
            [{"job": json.dumps(job)} for job in jobs], override_num_blocks=blocks
        ).map(
            _Actor,
            fn_constructor_args=(task,),
            compute=ray.data.ActorPoolStrategy(size=workers),
            num_cpus=1,
            num_gpus=1 if task.device.startswith("cuda") else None,
        )
        for row in rows.iter_rows():
            if row["stop"]:
                raise FlicError(row["stop"])
            yield Result.from_json(row["result"])
    except ray.exceptions.RayError as error:
        last = str(error).strip().splitlines()[-1]
        raise FlicError(f"Ray failed: {last}") from error
    finally:
        if ours:
            ray.shutdown()


def _start(ray, workers: int | None, address: str | None) -> None:
    options = {"address": address, "log_to_driver": False, "logging_level": "ERROR"}
    if address is None and "RAY_ADDRESS" not in os.environ:
        options |= {
            "num_cpus": workers,
            "object_store_memory": _STORE,
            "include_dashboard": False,
        }
    try:
        ray.init(**options)
    except Exception as error:  # Ray raises plain ones too
        raise FlicError(f"Ray does not start: {error}") from error
