"""A training run from its first step to its last: data in, steps, records and checkpoints out."""

from __future__ import annotations

import contextlib
import gc
import json
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ..coding.request import never
from ..model.network import FLIC
from ..output import write_atomic
from . import pictures, run_folder, state, validation
from .crops import Crops, batches, to_tensor
from .distributed import World, world
from .logs import Mean, Records, tensorboard_writer
from .pictures import Pictures
from .progress import Progress, psnr
from .recipe import MS_SSIM_SIDE, Recipe
from .trainer import Trainer

_HELD_OUT = (20, 24)  # by default a twentieth of the pictures, at most 24
_PATIENCE = 100  # steps in a row without a finite gradient, after which a run gives up


@dataclass(frozen=True)
class Options:
    """How a run is carried out, and on which pictures it is validated.

    Attributes:
        device: as torch names it; under torchrun "cuda" means one card a process.
        validation: folder of validation pictures; None for test/ beside train/ in the data folder,
            or where these are not there for pictures held out from it.
        hold_out: how many are held out; None for a twentieth, at most 24; 0 for no validation.
        validate_every: steps between two validations of a run by steps; one by epochs is validated
            after each, or as `Recipe.plateau_every` says.
        every: steps between two checkpoints (one comes at each epoch's end as well).
        log_every: steps that a row of log.csv stands for.
        workers: threads that read pictures; 0 reads them between the steps.
        cache: bytes of decoded pictures that each process keeps.
        tensorboard: write TensorBoard's events too.
        overwrite: replace files under a run's names that no run wrote.
        minutes: after which the run stops, to be resumed; None for its whole length.
        enough: asked after each step whether the run is to stop there, to be resumed; with several
            processes every `log_every` steps.
    """

    device: str = "cpu"
    validation: Path | None = None
    hold_out: int | None = None
    validate_every: int = 1000
    every: int = 250
    log_every: int = 50
    workers: int = 2
    cache: int = 4 << 30
    tensorboard: bool = False
    overwrite: bool = False
    minutes: float | None = None
    enough: Callable[[], bool] = field(default=never, compare=False)


def train(
    recipe: Recipe,
    data: str | Path,
    save: str | Path,
    *,
    start: FLIC | None = None,
    resume: str | Path | None = None,
    options: Options | None = None,
) -> Path:
    """Run or continue a training; returns the path of the averaged model.

    In the folder `save`: last.pth.tar (from which the run is continued where it is there),
    model.safetensors (the averaged weights), best.safetensors (those with the least validation
    loss), log.csv, validation.csv, recipe.json and, if asked for, tensorboard/.

    `start` gives the first weights, and `recipe.start` their fingerprint; `resume` is another
    run's last.pth.tar to continue from.
    Raises ValueError, OSError or FlicError (ForeignFileError where `save` holds files under these
    names that no run wrote, unless options say otherwise); FloatingPointError where training
    diverges.
    """
    options = options or Options()
    if not options.overwrite:
        run_folder.check(Path(save))
    torch.backends.cudnn.deterministic = True  # its other kernels differ from run to run
    with world(options.device) as processes, contextlib.ExitStack() as stack:
        Run(recipe, Path(data), Path(save), start, resume, options, processes, stack).finish()
    return Path(save) / state.MODEL


class Run:
    """A training run in one process. stack: holds the folder until it is closed."""

    def __init__(
        self,
        recipe: Recipe,
        data: Path,
        folder: Path,
        start: FLIC | None,
        resume: str | Path | None,
        options: Options,
        processes: World,
        stack: contextlib.ExitStack,
    ):
        self.recipe, self.folder, self.options, self.world = recipe, folder, options, processes
        self.leads = processes.rank == 0
        writer = tensorboard_writer() if options.tensorboard else None
        self.progress = Progress(shown=self.leads)
        self._find_pictures(data)
        self.trainer = Trainer(recipe, start=start, world=processes)
        self.total = recipe.steps or recipe.epochs * self.crops.steps_per_epoch
        self.best, self.mean = math.inf, Mean(processes)
        self.loading = self.seconds = 0.0
        self.timed = 0
        if self.leads:
            stack.enter_context(run_folder.held(folder))
        last = folder / state.LAST
        if last.exists():
            self._resume(last)
        elif resume is not None:
            self._resume(Path(resume))
        else:
            self.trainer.begin(self.crops)
        processes.wait()  # nobody writes before all have read
        if self.leads:
            text = json.dumps(recipe.to_dict(), indent=1) + "\n"
            write_atomic(folder / run_folder.RECIPE, text.encode())
            self.records = Records(folder, self.trainer.step, writer)

    def _find_pictures(self, data: Path) -> None:
        recipe, options, report = self.recipe, self.options, self.progress.line
        data, test = pictures.subfolders(data)
        test = options.validation or test
        files = pictures.scan(data, recipe.crop, report)
        if test is not None:
            least = MS_SSIM_SIDE if recipe.metric == "ms-ssim" else 1
            least = recipe.crop if recipe.published_validation else least
            held = pictures.scan(test, least, report)
        else:
            share, most = _HELD_OUT
            count = options.hold_out
            if count is None:
                count = min(most, max(1, len(files) // share)) if len(files) > 1 else 0
            files, held = pictures.hold_out(files, count, recipe.seed)
        if not held and recipe.epochs is not None:
            raise ValueError("a run by epochs needs validation pictures, and there are none")
        self.digest = [pictures.digest(data, files), pictures.digest(test or data, held)]
        self.crops = Crops(Pictures(files, options.cache, self.progress.note), recipe)
        self.held = Pictures(held, 0, self.progress.note)

    def _resume(self, path: Path) -> None:
        saved = state.read(path)
        state.restore(self.trainer, saved, self.recipe, path)
        if saved["digest"] != self.digest:
            raise ValueError(
                f"{path} was trained or validated on other pictures than are there now"
            )
        self.best = saved["best"]
        self.mean.restore(saved["mean"])

    def finish(self) -> None:
        """Train to the last step."""
        trainer, options = self.trainer, self.options
        self.progress.line(
            f"{len(self.crops.pictures)} pictures to train on, {len(self.held)} to validate; "
            f"steps {trainer.step} to {self.total}"
        )
        stream = batches(self.crops, trainer.step, trainer.samples, options.workers)
        begin = time.monotonic()
        shown = self.progress.of(self.total, trainer.step)
        with shown, contextlib.closing(stream), _garbage_of_steps_alone():
            while trainer.step < self.total:
                self._step(stream)
                ends, last = self._epoch_ends(), trainer.step == self.total
                due = self._validates(ends)
                if self.held and (last or due):
                    self._validate(due)
                if last or trainer.step % options.log_every == 0:
                    self._log()
                stops = self._stops(begin)
                if last or ends or stops or trainer.step % options.every == 0:
                    self._save()
                if stops:
                    break
        if self.leads:
            self.records.close()

    def _step(self, stream) -> None:
        trainer, begin = self.trainer, time.perf_counter()
        x = to_tensor(next(stream), self.world.device)
        loaded = time.perf_counter()
        terms = trainer.train_step(x)
        done = time.perf_counter()
        self.loading, self.seconds = self.loading + loaded - begin, self.seconds + done - begin
        self.timed += 1
        shown = {"rate": self.recipe.batch / (done - begin)}
        shown["loading"] = (loaded - begin) / (done - begin)
        if terms is not None:
            self.mean.add(terms)
            shown |= {name: float(term) for name, term in terms.items()}
        elif trainer.skipped_in_a_row >= _PATIENCE:
            raise FloatingPointError(
                f"no finite gradient in {_PATIENCE} steps, up to {trainer.step}"
            )
        self.progress.step(trainer.step, shown)

    def _stops(self, begin: float) -> bool:
        """Whether the time given is over, or a stop asked for, in any process."""
        if self.world.size > 1 and self.trainer.step % self.options.log_every:
            return False  # asking all of them takes time
        minutes, passed = self.options.minutes, time.monotonic() - begin
        over = minutes is not None and passed > 60 * minutes
        return any(self.world.gather(over or self.options.enough()))

    def _epoch_ends(self) -> bool:
        return self.recipe.epochs is not None and (
            self.trainer.step % self.crops.steps_per_epoch == 0
        )

    def _validates(self, epoch_ends: bool) -> bool:
        recipe = self.recipe
        if recipe.epochs is not None and recipe.plateau_every is None:
            return epoch_ends
        return self.trainer.step % (recipe.plateau_every or self.options.validate_every) == 0

    @property
    def _place(self) -> dict[str, int]:
        step = self.trainer.step
        return {"step": step, "epoch": step // self.crops.steps_per_epoch}

    def _validate(self, due: bool) -> None:
        """Score the model; a validation that is `due`, not just the run's last, moves the rate."""
        trainer, recipe = self.trainer, self.recipe
        rows = [
            validation.validate(trainer.averaged, self.held, recipe, self.world, quant_step)
            for quant_step in recipe.validated_steps
        ]
        loss = statistics.fmean(row["loss"] for row in rows)
        if due and recipe.epochs is not None:
            for each in trainer.schedulers:
                each.step(loss)
        if loss < self.best:
            self.best = loss
            if self.leads:
                state.save_model(self.folder / state.BEST, trainer)
        for row in rows:
            if self.leads:
                self.records.write("validation", self._place | row)
            self.progress.validated(trainer.step, row)

    def _log(self) -> None:
        row: Mapping = self.mean.take()
        rate = {
            "rate": self.timed * self.recipe.batch / self.seconds,
            "loading": self.loading / self.seconds,
        }
        self.loading = self.seconds = 0.0
        self.timed = 0
        self.progress.log(self.trainer.step, row | rate)
        if not self.leads:
            return
        if row:
            row["psnr"] = psnr(row.pop("mse"))
        rate = {name: f"{value:.4g}" for name, value in rate.items()}
        lr, skipped = self.trainer.learning_rate, self.trainer.skipped
        row = self._place | row | {"lr": lr, "skipped": skipped} | rate
        self.records.write("training", row)

    def _save(self) -> None:
        mean = self.mean.state()
        if self.leads:
            state.save_model(self.folder / state.MODEL, self.trainer)
            more = {"best": self.best, "mean": mean, "digest": self.digest}
            state.save(self.folder / state.LAST, self.trainer, **more)


@contextlib.contextmanager
def _garbage_of_steps_alone() -> Iterator[None]:
    """Inside, the collector leaves out what was there before: PyTorch's modules, which it would
    search again in every second step (a tenth of a small one)."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
