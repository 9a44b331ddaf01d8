"""One of the processes of tests/training/test_distributed.py, started by torchrun.

    torchrun ... training_worker.py DATA OUT

Writes the gradients of a global batch, from process 0, to OUT/float32.pt and OUT/float64.pt, a run
into OUT/run, and one that was stopped on the way and continued into OUT/stopped.
"""

import contextlib
import sys
from pathlib import Path

import torch
from torch import Tensor
from training_runs import batch_of, crops_of, recipe

from flic.training import Options, train
from flic.training.distributed import World, world
from flic.training.trainer import Trainer

RECIPE = recipe(batch=2, epochs=1)
OPTIONS = Options(every=1, log_every=2, workers=1, hold_out=2)
STEP = Trainer.train_step
DTYPES = {"float32": torch.float32, "float64": torch.float64}


def gradients(
    processes: World, data: Path, dtype: torch.dtype, chunks: tuple[range, ...] | None = None
) -> dict[str, Tensor]:
    """The main loss's gradients of the first batch: of this process's part, or chunk by chunk."""
    start = Trainer(RECIPE).model.to(dtype)
    trainer = Trainer(RECIPE, start=start, world=processes)
    crops = crops_of(data, RECIPE)
    for part in chunks or (trainer.samples,):
        trainer.samples = part
        loss = trainer.forward(batch_of(trainer, crops).to(dtype))["loss"]
        (loss / len(chunks or "1")).backward()
    named = trainer.model.named_parameters()
    return {name: p.grad.clone() for name, p in named if p.grad is not None}


def stop(trainer: Trainer, x: Tensor) -> dict | None:
    """Trainer.train_step of a run that ends before its second step."""
    if trainer.step == 1:
        raise KeyboardInterrupt
    return STEP(trainer, x)


def main() -> None:
    torch.set_num_threads(1)
    data, out = map(Path, sys.argv[1:])
    with world("cpu") as processes:
        assert processes.size == 2 and len(processes.share(2)) == 1
        for name, dtype in DTYPES.items():
            result = gradients(processes, data, dtype)
            if processes.rank == 0:
                torch.save(result, out / f"{name}.pt")
        train(RECIPE, data, out / "run", options=OPTIONS)
        Trainer.train_step = stop
        with contextlib.suppress(KeyboardInterrupt):
            train(RECIPE, data, out / "stopped", options=OPTIONS)
        Trainer.train_step = STEP
        train(RECIPE, data, out / "stopped", options=OPTIONS)


if __name__ == "__main__":
    main()
