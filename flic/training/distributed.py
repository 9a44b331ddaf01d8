"""Several processes: what torchrun started, each process's part of a batch, and sums over all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..model.network import FLIC


@dataclass(frozen=True)
class World:
    """This process's number among all, and the device that it computes on."""

    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")

    def share(self, batch: int) -> range:
        """The samples of a global batch that are this process's; ValueError if none or uneven."""
        if batch % self.size:
            raise ValueError(f"a batch of {batch} does not divide among {self.size} processes")
        part = batch // self.size
        return range(self.rank * part, (self.rank + 1) * part)

    def mean(self, values: Tensor) -> Tensor:
        """The mean over all processes of a tensor that each of them has."""
        if self.size > 1:
            dist.all_reduce(values)
            values /= self.size
        return values

    def share_out(self, tensors: list[Tensor]) -> None:
        """Give every process what the first one has in these tensors."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor.detach(), 0)

    def gather(self, value: object) -> list:
        """What each process gives, in the order of their numbers, in every process."""
        if self.size == 1:
            return [value]
        values = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            dist.barrier()


def leads() -> bool:
    """Whether this is the process that speaks for all; known before they are connected."""
    return not dist.is_torchelastic_launched() or os.environ["RANK"] == "0"


@contextlib.contextmanager
def world(device: str) -> Iterator[World]:
    """The processes that torchrun started, connected by NCCL (cuda) or Gloo; else this one alone.

    Under torchrun, device "cuda" means one card a process. A process group that is there already
    is used and left open.
    """
    if dist.is_initialized():
        yield World(dist.get_rank(), dist.get_world_size(), torch.device(device))
        return
    if not dist.is_torchelastic_launched():
        yield World(device=torch.device(device))
        return
    place = torch.device(device)
    if place.type == "cuda":
        place = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(place)
        dist.init_process_group("nccl", device_id=place)
    else:
        dist.init_process_group("gloo")
    try:
        yield World(dist.get_rank(), dist.get_world_size(), place)
    finally:
        dist.destroy_process_group()


def trained(model: FLIC) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Parameters of the main loss and of the auxiliary one.

    The start token of T-CA, which nothing uses, is frozen: no optimiser moves it.
    """
    model.tca.TCA.start_token.requires_grad_(False)
    main, auxiliary = [], []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            (auxiliary if name.endswith(".quantiles") else main).append(parameter)
    return main, auxiliary


def parallel(model: FLIC, auxiliary: list[nn.Parameter], world: World) -> nn.Module:
    """The model as each process calls it in training: its gradients are the global batch's.

    The main loss gives the auxiliary loss's parameters no gradient, so DDP is built without them.
    The auxiliary loss sees parameters alone: every process computes the same gradient of it.
    """
    if world.size == 1:
        return model
    for parameter in auxiliary:
        parameter.requires_grad_(False)
    wrapped = DistributedDataParallel(
        model,
        device_ids=[world.device] if world.device.type == "cuda" else None,
        broadcast_buffers=False,
        gradient_as_bucket_view=True,
    )
    for parameter in auxiliary:
        parameter.requires_grad_(True)
    return wrapped
