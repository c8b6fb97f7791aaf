"""Checkpoints: written whole or not at all, found again, and the signals that ask for one."""

import logging
import math
import os
import shutil
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins import CheckpointIO
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from medgan_pl.core.counts import whole_number
from medgan_pl.core.files import Written, atomically, remove_leftovers
from medgan_pl.core.safe_load import Stored
from medgan_pl.metrics.catalogue import CATALOGUE
from medgan_pl.models.guards import check_finite
from medgan_pl.models.module import AdversarialModule
from medgan_pl.models.state import RunState, read_stored

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)  # Ctrl-C; the end of a cluster's patience; SLURM's warning before it
AGREE_EVERY = 8  # steps between two talks of the ranks about a signal


class Stopped(Exception):
    """A signal ended the run after a whole step, which was saved."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.signum = signum


class WholeFiles(CheckpointIO):
    """Write checkpoints `atomically`: a kill or a full disk leaves the checkpoint before it whole.

    A file that cannot be written is no error here, since the other ranks wait at a barrier behind it: `error` holds it until the next.
    `found`: the checkpoint that the run resumes from, which has been read already. Its content is handed out once; `found` keeps none of
    it, so that no second copy of the weights stays in memory.
    """

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.found: Stored[RunState] | None = None

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        self.error = None
        remove_leftovers(Path(path))  # Lightning calls this on rank 0 alone
        written = None
        try:
            with atomically(Path(path)) as temporary, temporary.open("wb") as file:
                written = Written(file)
                torch.save(checkpoint, written)  # to an open file: to a path, its name would stand in the file
        except (OSError, RuntimeError) as error:  # torch says "unexpected pos" for a full disk
            self.error = (written and written.error) or error

    def load_checkpoint(self, path: str | Path, map_location: Any | None = None, weights_only: bool | None = None) -> dict[str, Any]:
        found, self.found = self.found, None
        if found is None or found.path != Path(path) or not found.content:
            found = read_stored(path)
        content = dict(found.content)
        found.content.clear()
        return content

    def remove_checkpoint(self, path: str | Path) -> None:
        Path(path).unlink(missing_ok=True)


NAMES = ("last.ckpt", "previous.ckpt", "best.ckpt")


def newest(folder: Path) -> Stored[RunState] | None:
    """Return the whole checkpoint in a run's checkpoint folder that has seen the most images. Warn of each damaged one."""
    found: list[Stored[RunState]] = []
    for path in [folder / name for name in NAMES if (folder / name).is_file()]:
        try:
            found.append(read_stored(path))
        except ValueError as error:
            rank_zero_only(log.warning)("passing over a checkpoint: %s", error)
        if found and found[0].path.name == NAMES[0]:
            break  # none is newer than the last
    return max(found, key=lambda each: each.state.images, default=None)


def higher_is_better(monitor: str) -> bool:
    """Return True if the catalogue says that a higher `monitor`, such as val/coverage_random, is better. Others: lower."""
    name = monitor.removeprefix("val/")
    known = [key for key in CATALOGUE if name == key or name.startswith(f"{key}_")]
    return bool(known) and CATALOGUE[max(known, key=len)].better == "higher"


class Checkpoints(pl.Callback):
    """Write the checkpoints of a run, and end the run when a signal asks for it.

    - last.ckpt is written at each validation, every `every` images, and when a signal ends the run. previous.ckpt is the one before it.
    - best.ckpt is that of the best `monitor` at a validation: the lowest, or the highest where `higher_is_better`; the newest where the
      monitor cannot be computed.
    - `stop_after`: the run ends early after so many validations in a row without a better `monitor` (early stopping).

    SIGINT (Ctrl-C), SIGTERM and SIGUSR1 end the run after the present step, on every rank after the same one. The run saves, does not
    validate, and raises Stopped, so that the resumed run equals one that was not stopped. A second Ctrl-C ends the run at once.
    Raise Diverged rather than save weights that are not finite. If a save fails, log the error, keep it in `unsaved`, and try again at the
    next save.
    """

    def __init__(self, folder: str | Path, monitor: str, every: int | None = None, stop_after: int | None = None) -> None:
        for name, count in {"save_every": every, "stop_after": stop_after}.items():
            if count is not None:
                whole_number(name, count, 1, "null is never")
        self.folder, self.monitor, self.every, self.stop_after = Path(folder), monitor, every, stop_after
        self.sign = -1.0 if higher_is_better(monitor) else 1.0
        self.best, self.worse = self.sign * math.inf, 0  # worse: validations since the best
        self.unsaved: Exception | None = None
        self.signum = 0
        self.before: dict[int, Any] = {}

    def state_dict(self) -> dict[str, Any]:
        return {"monitor": self.monitor, "best": self.best, "worse": self.worse}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state.get("monitor", self.monitor) == self.monitor:  # of another, by resume.force, nothing can be compared
            self.best, self.worse = state["best"], state["worse"]

    # Signals --------------------------------------------------------------------------------------------------------------------

    def listen(self) -> None:
        """Install the signal handlers. Called before the first step, and again after Lightning has installed its own."""
        if threading.current_thread() is threading.main_thread() and not self.signum:
            found = {signum: signal.signal(signum, self.note) for signum in SIGNALS}
            self.before = self.before or found

    def on_train_start(self, trainer: pl.Trainer, module: AdversarialModule) -> None:
        self.listen()

    def note(self, signum: int, frame: FrameType | None) -> None:
        self.signum = signum
        rank_zero_only(log.info)("%s: stopping after this step; Ctrl-C again ends at once, without saving", signal.Signals(signum).name)
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    def restore_signals(self) -> None:
        for signum, handler in self.before.items():
            signal.signal(signum, handler)

    def on_train_end(self, trainer: pl.Trainer, module: AdversarialModule) -> None:
        self.restore_signals()

    def on_exception(self, trainer: pl.Trainer, module: AdversarialModule, exception: BaseException) -> None:
        self.restore_signals()

    def agreed(self, trainer: pl.Trainer, batch_idx: int) -> int:
        """Return the signal that any rank has received, or 0. Several ranks ask each other every AGREE_EVERY steps."""
        if trainer.world_size == 1:
            return self.signum
        if batch_idx % AGREE_EVERY == 0:
            mine = torch.tensor(float(self.signum), device=trainer.strategy.root_device)
            self.signum = int(trainer.strategy.reduce(mine, reduce_op="max"))
            return self.signum
        return 0

    # Saving ---------------------------------------------------------------------------------------------------------------------

    def on_train_batch_end(self, trainer: pl.Trainer, module: AdversarialModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        signum = self.agreed(trainer, batch_idx)
        if trainer.should_stop or trainer.val_check_batch == 1:
            return  # a validation follows and saves: a checkpoint from before it would make a run that goes on miss it
        if signum or (self.every is not None and module.passed(self.every)):
            self.save(trainer, module)
        if signum:
            raise Stopped(signum)

    def on_validation_end(self, trainer: pl.Trainer, module: AdversarialModule) -> None:
        if self.monitor not in trainer.callback_metrics:
            shown = ", ".join(key for key in trainer.callback_metrics if key.startswith("val/"))
            raise ValueError(f"`monitor` must be one of the validation metrics, got {self.monitor}; there are: {shown}")
        if trainer.state.fn != "fit":
            return  # the look at the untrained networks before the first step: nothing to keep
        value = float(trainer.callback_metrics[self.monitor])
        if math.isnan(value):  # too few images were held out for it: nothing can be better
            self.save(trainer, module, best=math.isinf(self.best))
            rank_zero_only(log.info)("%9d images  %s cannot be computed; best.ckpt is the newest", module.images, self.monitor)
        else:
            self.judge(trainer, module, value)
        if self.agreed(trainer, 0) and not trainer.should_stop:
            raise Stopped(self.signum)

    def judge(self, trainer: pl.Trainer, module: AdversarialModule, value: float) -> None:
        """Save, as the best if the monitor's value is; end the run after `stop_after` validations without a better one."""
        better = self.sign * value < self.sign * self.best
        self.best, self.worse = (value, 0) if better else (self.best, self.worse + 1)
        self.save(trainer, module, best=better)
        rank_zero_only(log.info)("%9d images  %s %.5g%s", module.images, self.monitor, value, "  (best so far)" if better else "")
        if self.stop_after is not None and self.worse >= self.stop_after:
            rank_zero_only(log.info)("%s has not become better for %d validations: the run ends (stop_after)", self.monitor, self.worse)
            trainer.should_stop = True

    def on_save_checkpoint(self, trainer: pl.Trainer, module: AdversarialModule, checkpoint: dict[str, Any]) -> None:
        runs = [logger.version for logger in trainer.loggers if isinstance(logger, WandbLogger)]
        state = module.run_state(wandb=runs[0] if runs else None, best=self.best, worse=self.worse)
        checkpoint["medgan_pl"] = state.plain()

    def save(self, trainer: pl.Trainer, module: AdversarialModule, best: bool = False) -> None:
        check_finite(module.state_dict())
        for logger in trainer.loggers:
            logger.save()  # no row of before the checkpoint may come after it
        files, new, last = trainer.strategy.checkpoint_io, self.folder / "last.ckpt.new", self.folder / "last.ckpt"
        trainer.save_checkpoint(new, weights_only=False)  # with the optimizers
        if not trainer.is_global_zero:
            return
        self.unsaved = files.error
        if files.error is not None:
            log.error("cannot save %s: %s; the run goes on and tries again; is the disk full?", last, files.error)
            return
        if best:
            also(new, self.folder / "best.ckpt")
        if last.exists():
            also(last, self.folder / "previous.ckpt")
        os.replace(new, last)  # at the end: killed before it, the run goes on from the old one and comes by here again


def also(path: Path, name: Path) -> None:
    """Give a file a second name, in place of the file that had it. Copy it where the disk has no links. Log a failure and continue."""
    remove_leftovers(name)
    try:
        with atomically(name) as temporary:
            try:
                os.link(path, temporary)
            except OSError:
                shutil.copyfile(path, temporary)
    except OSError as error:
        log.error("cannot write %s: %s; the run goes on", name, error)
