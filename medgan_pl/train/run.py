"""A run of training from its configuration to its end.

The heavy imports come inside the functions, so that the manual and a mistyped option answer at once.
"""

import logging
import math
import os
import signal
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgan_pl.core.command import OTHER_RANK, quiet_libraries
from medgan_pl.core.console import VisibleFormatter, log, one_message
from medgan_pl.core.credentials import check_secrets
from medgan_pl.core.files import write_whole
from medgan_pl.models.build import build_module, count
from medgan_pl.train.checks import check_data, check_depth, check_learnt, check_same_place, check_same_run, check_settings, repeated
from medgan_pl.train.memory import explained
from medgan_pl.train.resume import check_processes, checkpoint_to_resume, launched
from medgan_pl.train.trainer import build_loggers, build_trainer, close_down, cut_short
from medgan_pl.train.unread import check_read

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from medgan_pl.core.safe_load import Stored
    from medgan_pl.models.guards import Diverged
    from medgan_pl.models.state import RunState


def run(config: "DictConfig") -> float:
    """Train one run under Hydra. Return the value that a sweeper minimizes, see `train`; NaN for a child of a sweep that failed."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    hydra = HydraConfig.get()
    run_dir = Path(hydra.runtime.output_dir)
    if hydra.mode == RunMode.MULTIRUN:
        from medgan_pl.core.lock import only_writer
        from medgan_pl.train.own_folder import ADVICE
        from medgan_pl.train.sweeps.children import child

        sweep = Path(hydra.runtime.cwd, hydra.sweep.dir)
        with only_writer(run_dir, ADVICE.format(kind="sweep")) if launched()[0] == 0 else nullcontext():
            return child(lambda: train(config), run=run_dir, sweep=sweep, overrides=list(hydra.overrides.task))
    with one_message(run_dir / "train.log"):
        return train(config)


def follow(run_dir: Path) -> None:
    """Run another rank of the run in `run_dir`, with the configuration that rank 0 has written there."""
    from omegaconf import OmegaConf

    screen = logging.StreamHandler()
    screen.setFormatter(VisibleFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[screen])
    try:
        train(OmegaConf.load(run_dir / "config.yaml"))
    except SystemExit:
        pass  # a signal: rank 0 logs it; an exit code here would have rank 0 killed before that
    except BaseException:
        time.sleep(10)  # the same: Lightning kills rank 0 as soon as another rank fails
        raise


def train(config: "DictConfig") -> float:
    """Build data, module, callbacks, loggers and trainer from the configuration, and train.

    Return the best value of `monitor`, or its negative if higher is better, because a sweeper looks for the lowest.
    A run that diverges returns to its last checkpoint with a lower learning rate, `guard.rollbacks` times. A signal ends the run with
    SystemExit(128 + signal) after a checkpoint is saved.
    """
    quiet_libraries()
    import torch
    from omegaconf import OmegaConf

    torch.set_flush_denormal(True)  # denormal numbers of a dying player slow the CPU many times over
    # Torch's defaults differ for the two. The older names are used: after the newer ones, reading the older is an error, and libraries do.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = bool(config.tf32)
    logging.raiseExceptions = False  # a full disk takes train.log, not the run
    plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    check_settings(plain)
    check_secrets(plain)
    check_read(OmegaConf.to_container(config, resolve=False), plain)
    run_dir = Path(plain["run_dir"])
    # All that can fail is built before the images are prepared, which may take minutes, and before anything is written.
    found = checkpoint_to_resume(plain["resume"]["path"], run_dir)
    if found:
        check_same_run(found.path, found.state, plain, plain["resume"]["force"])
        images, progress = found.state.images, found.state.progress
        if images >= plain["total_images"] or progress.worse >= (plain["stop_after"] or math.inf):
            ended = f"the run in {run_dir} has ended, after {images:,} images"
            log_line(f"{ended}; for a longer one: resume.force=true with total_images=… or stop_after=…")
            return minimized(plain["monitor"], float(progress.best))
    try:
        with explained(plain):
            return Run(config, plain, found).train()
    finally:
        close_down()


def minimized(monitor: str, best: float) -> float:
    from medgan_pl.train.checkpoints import higher_is_better

    return -best if higher_is_better(monitor) else best


def log_line(line: str) -> None:
    from pytorch_lightning.utilities import rank_zero_only

    rank_zero_only(log.info)(line)


class Run:
    """A run from its beginning or a checkpoint to its end. It returns to its last checkpoint if it diverges."""

    def __init__(self, config: "DictConfig", plain: dict[str, Any], found: "Stored[RunState] | None") -> None:
        from hydra.utils import instantiate

        self.config, self.plain, self.found = config, plain, found
        self.folder, self.resume = Path(plain["run_dir"]), plain["resume"]
        self.data = instantiate(config.data, _convert_="all")
        check_data(plain, self.data)
        plain["phantom"] = self.data.phantom
        if found:
            if "init_from_sha256" in found.state.config:
                plain["init_from_sha256"] = found.state.config["init_from_sha256"]
            if plain["init_from"] is not None:
                log_line(f"init_from is not read: the run resumes from {found.path}")
        self.module = self.new_module()
        check_depth(self.module, self.data)
        self.module.configure_optimizers()  # only this raises for an option that an optimizer does not have
        self.callbacks = {name: instantiate(node, _convert_="all") for name, node in config.callbacks.items() if node}
        own = found and found.path.resolve().is_relative_to(
            self.folder.resolve()
        )  # a run that starts from another's checkpoint is a run of its own
        self.loggers = build_loggers(plain["logger"], found.state.progress.wandb if own else None)
        self.trainer = self.new_trainer()
        check_processes(self.trainer.world_size)
        self.setbacks: list[str] = []

    def new_module(self) -> Any:
        """Return the module with its first weights: those of `init_from` if the run starts at its beginning, also after a return to it."""
        module = build_module(self.plain)
        if self.plain["init_from"] is not None and self.found is None:
            from medgan_pl.models.transfer import begin_from

            for line in begin_from(self.plain, module, self.data.classes):
                log_line(line)
        return module

    def new_trainer(self) -> Any:
        return build_trainer(self.config, list(self.callbacks.values()), self.loggers)

    def train(self) -> float:
        """Train to the end. Return the best value of `monitor`, as `train` does."""
        from medgan_pl.models.guards import Diverged

        self.prepare()
        while True:
            try:
                self.fit()
                break
            except Diverged as error:
                self.go_back(error)
        self.check_saved("the run is complete")
        log_line(f"{self.module.images:,} images shown; the run is in {self.folder}{cut_short(self.trainer, self.module, self.folder)}")
        return minimized(self.plain["monitor"], float(self.callbacks["checkpoints"].best))

    def check_saved(self, what: str) -> None:
        """Raise OSError if the last checkpoint, or a row of the tables, could not be written."""
        from medgan_pl.train.tables import MetricsTable

        checkpoints = self.callbacks["checkpoints"]
        if checkpoints.unsaved:
            raise OSError(
                f"{what}, and its last checkpoint could not be saved: {checkpoints.unsaved}; "
                f"{checkpoints.folder} has the one before it: make room and resume from there"
            )
        stale = [str(table.path) for each in self.loggers if isinstance(each, MetricsTable) for table in each.tables if table.stale]
        if stale:
            raise OSError(f"{what} and saved, and the last rows of {', '.join(stale)} could not be written; make room")

    def prepare(self) -> None:
        """Write the configuration, read the data, and log a summary of both."""
        from hydra.core.hydra_config import HydraConfig
        from omegaconf import OmegaConf

        trainer, data = self.trainer, self.data
        if not trainer.is_global_zero:
            return  # Lightning sets the data up when rank 0 has prepared it
        (self.folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        data.prepare_data()
        data.setup("fit")
        check_learnt(self.plain, data)
        if self.found:
            device, force = trainer.strategy.root_device.type, self.resume["force"]
            check_same_place(self.found.state.progress, trainer.world_size, device, data.fingerprint, force)
        write_whole(self.folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(self.plain)).encode())
        if HydraConfig.initialized():
            write_whole(self.folder / "overrides.yaml", OmegaConf.to_yaml(HydraConfig.get().overrides.task).encode())
        for line in data.describe():
            log_line(line)
        if line := repeated(self.plain, trainer.world_size, data):
            log.warning(line)
        weights = ", ".join(f"{name} {count(network)}" for name, network in self.module.networks.items())
        log_line(f"weights of the players: {weights}; {self.plain['total_images']:,} images to show")
        for logger in self.loggers:
            logger.log_hyperparams(self.plain)
        if trainer.world_size > 1 and not trainer.strategy.cluster_environment.creates_processes_externally:
            os.environ[OTHER_RANK] = str(self.folder.resolve())

    def fit(self) -> None:
        from pytorch_lightning.utilities.exceptions import SIGTERMException

        from medgan_pl.train.checkpoints import Stopped
        from medgan_pl.train.tables import MetricsTable

        for logger in self.loggers:
            if isinstance(logger, MetricsTable):
                logger.forget_after(self.found.state.images if self.found else -1)
        self.callbacks["checkpoints"].listen()
        try:
            if self.found is None:
                self.trainer.validate(self.module, datamodule=self.data, verbose=False)  # the untrained generator: the first value
            else:
                log_line(f"resuming from {self.found.path}, after {self.found.state.images:,} images")
                self.trainer.strategy.checkpoint_io.found = self.found
            self.trainer.fit(self.module, datamodule=self.data, ckpt_path=self.found and str(self.found.path), weights_only=True)
        except Stopped as stop:
            self.check_saved(f"the run was {stop}")
            log_line(f"{stop} after {self.module.images:,} images; to resume: python -m medgan_pl.train resume={self.folder}")
            raise SystemExit(128 + stop.signum) from None
        except SIGTERMException:  # before the first step
            raise SystemExit(128 + signal.SIGTERM) from None
        finally:
            self.callbacks["checkpoints"].restore_signals()

    def go_back(self, error: "Diverged") -> None:
        """Return to the last checkpoint, or to the beginning if there is none, with a lower learning rate."""
        from medgan_pl.train.checkpoints import newest

        guard, before = self.plain["guard"], self.module
        self.found = newest(self.folder / "checkpoints") or self.found  # else the beginning, which may be another run's checkpoint
        start = f"{self.found.path.name}, {self.found.state.images:,} images" if self.found else "the beginning"
        message = f"{error}, after {before.images:,} images"
        self.setbacks.append(f"{message} (learning rates × {before.rate:g})")
        if before.rollbacks >= guard["rollbacks"]:
            setbacks = "\n  ".join(self.setbacks)
            advice = f"{start} is the last good one: resume from it with resume.force=true and" if self.found else "Start again with"
            raise FloatingPointError(
                f"the run diverges, and {before.rollbacks} rollbacks did not help:\n  {setbacks}\n{advice} a lower optimizer_d.lr or "
                "optimizer_g.lr, clip_d=1 clip_g=1, penalty=r1, or trainer.precision=32-true"
            ) from error
        self.module = self.new_module()
        self.module.rate, self.module.rollbacks = before.rate * guard["slow_down"], before.rollbacks + 1
        self.trainer = self.new_trainer()
        log.warning("%s; back to %s, learning rates × %g", message, start, self.module.rate)
