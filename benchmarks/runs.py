"""Shared code of the benchmarks: the project's module under Lightning on batches in memory, stopped between turns."""

import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from medgan_pl.core.console import configuration_folder
from medgan_pl.core.table import Table
from medgan_pl.data.files.covariates import Covariates
from medgan_pl.models.build import build_module
from medgan_pl.models.module import AdversarialModule


class Endless(IterableDataset):
    def __init__(self, batches: Tensor) -> None:
        self.batches = batches

    def __iter__(self):
        while True:
            for batch in self.batches:
                yield {"image": batch, "label": torch.arange(len(batch), device=batch.device) % 2}


class Data(pl.LightningDataModule):
    """Repeats `batches` (N, B, C, *S) without end."""

    classes = ()
    covariates = Covariates()

    def __init__(self, batches: Tensor) -> None:
        super().__init__()
        self.batches = batches

    def sizes(self) -> dict[str, int]:
        return {"train": self.batches.shape[0] * self.batches.shape[1]}

    def train_dataloader(self) -> DataLoader:
        return DataLoader(Endless(self.batches), batch_size=None)


class Rows(Logger):
    """Writes metrics.csv as a run does: appends each row at once."""

    name = version = None

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.table = Table(path)

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Log nothing."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.table.add(metrics)


def module_of(*overrides: str) -> AdversarialModule:
    """Return the module of the project's own configuration, in a run without end."""
    endless = ("run_dir=none", "total_images=1000000000", "validate_every=1000000000", "logger=csv")
    with initialize_config_dir(str(configuration_folder()), version_base="1.3"):
        return build_module(OmegaConf.to_container(compose("config", overrides=[*endless, *overrides]), resolve=True))


def trainer_of(folder: Path, callback: pl.Callback, **arguments: Any) -> pl.Trainer:
    """Return a trainer like that of a run, without validation, on the CPU by default; rows go to metrics.csv in `folder`."""
    usual = {"accelerator": "cpu", "logger": [Rows(folder / "metrics.csv")]}
    return pl.Trainer(
        max_epochs=-1,
        limit_val_batches=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        callbacks=[callback],
        **(usual | arguments),
    )


class Clock(pl.Callback):
    """Measures the seconds of each turn of `steps` steps, `turns` of them after `warm` turns of warm-up."""

    now = staticmethod(time.perf_counter)

    def __init__(self, steps: int, turns: int, warm: int = 1) -> None:
        self.steps, self.turns, self.warm = steps, turns, warm
        self.seconds: list[float] = []

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch: dict, batch_idx: int) -> None:
        if batch_idx % self.steps:
            return
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        if batch_idx // self.steps > self.warm:
            self.seconds.append(self.now() - self.start)
        if len(self.seconds) == self.turns:
            trainer.should_stop = True
        self.between()
        self.start = self.now()

    def between(self) -> None:
        """Do nothing between two turns; subclasses may wait here."""


class Taken(Clock):
    """A clock whose turns are started one by one with `take`, while the training waits in a thread of its own, so that several trainings
    alternate.

    It counts the CPU time of that thread, which other work on the machine hardly affects; torch may use only this thread.
    """

    now = staticmethod(time.thread_time)

    def __init__(self, steps: int, turns: int, warm: int = 1) -> None:
        super().__init__(steps, turns, warm)
        self.go, self.done = threading.Semaphore(0), threading.Semaphore(0)
        self.failed: BaseException | None = None

    def between(self) -> None:
        self.done.release()
        self.go.acquire()

    def begin(self, trainer: pl.Trainer, module: AdversarialModule, data: Data) -> None:
        def run() -> None:
            try:
                trainer.fit(module, datamodule=data)
            except BaseException as error:
                self.failed = error
                self.done.release()

        threading.Thread(target=run, daemon=True).start()
        self.wait()

    def take(self) -> None:
        self.go.release()
        self.wait()

    def wait(self) -> None:
        self.done.acquire()
        if self.failed is not None:
            raise self.failed


def in_turns(runs: dict[str, tuple[AdversarialModule, dict]], batches: Tensor, steps: int, turns: int) -> dict[str, list[float]]:
    """Return seconds per step of each named module, under a trainer of these arguments, all on the same batches, alternating."""
    torch.set_num_threads(1)
    clocks = {name: Taken(steps, turns) for name in runs}
    with tempfile.TemporaryDirectory() as folder:
        for name, (module, arguments) in runs.items():
            clocks[name].begin(trainer_of(Path(folder, name), clocks[name], **arguments), module, Data(batches))
        for _ in range(turns + 1):
            for clock in clocks.values():
                clock.take()
    return {name: [seconds / steps for seconds in clock.seconds] for name, clock in clocks.items()}


def quartiles(values: list[float]) -> str:
    """Return the median with its quartiles as text: 1.02 (0.99 to 1.05)."""
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"
