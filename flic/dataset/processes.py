"""The processes that share a data set: those that torchrun started, or this one alone."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from ..errors import FlicError

Value = TypeVar("Value")

# The first to finish waits for the last. More than 24 days do not fit in 32 bits of milliseconds.
_PATIENCE = timedelta(days=20)
_TORCHRUN = "TORCHELASTIC_RUN_ID"  # of the environment: whoever has it, torchrun started


@dataclass(frozen=True)
class Processes:
    """rank: this process's number of `size`."""

    rank: int = 0
    size: int = 1

    def device(self, name: str) -> str:
        """The device of this process; "cuda" means one card a process."""
        if self.size > 1 and name == "cuda":
            return f"cuda:{os.environ['LOCAL_RANK']}"
        return name

    def from_first(self, make: Callable[[], Value]) -> Value:
        """What the first process makes, in all of them; its FlicError ends them all."""
        if self.size == 1:
            return make()
        import torch.distributed as dist

        told: list = [None]
        if self.rank == 0:
            try:
                told = [make()]
            except FlicError as error:
                told = [error]
        dist.broadcast_object_list(told)
        if isinstance(told[0], FlicError):
            raise told[0] if self.rank == 0 else SystemExit(1)
        return told[0]

    def gather(self, part: list) -> list:
        """The parts of all processes as one list, in the first; in the others an empty one."""
        if self.size == 1:
            return part
        import torch.distributed as dist

        parts = [None] * self.size if self.rank == 0 else None
        dist.gather_object(part, parts)
        return [item for part in parts or () for item in part]


@contextlib.contextmanager
def processes() -> Iterator[Processes]:
    """The processes of this run, connected by Gloo; torch is imported only where there are some."""
    if _TORCHRUN not in os.environ:
        yield Processes()
        return
    import torch.distributed as dist

    dist.init_process_group("gloo", timeout=_PATIENCE)
    try:
        yield Processes(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()
