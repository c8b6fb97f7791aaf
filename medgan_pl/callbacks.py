"""Things that only look: the table of metrics, the curves, the sample grids, the checkpoints, the progress bar."""

import csv
import logging
import math
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from PIL import Image
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities import rank_zero_only
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from torch import Tensor
from torchvision.utils import make_grid

from medgan_pl.batch import Batch
from medgan_pl.keys import Purpose, key_randomness
from medgan_pl.module import AdversarialModule

log = logging.getLogger(__name__)


class MetricsTable(Logger):
    """metrics.csv: a row each logging interval and each validation, both in one row where they fall on the same number of images.

    A new column widens the file; going on from N images first drops the rows past N, so that none stands twice.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self.path = Path(path)
        self.columns: list[str] = []
        self.rows: list[dict[str, Any]] = []
        if self.path.exists():
            with self.path.open(newline="") as file:
                reader = csv.DictReader(file)
                self.columns, self.rows = list(reader.fieldnames or []), list(reader)

    name = version = None

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """The configuration stands in config.yaml."""

    @rank_zero_only
    def forget_after(self, images: int) -> None:
        if all(int(row["images"]) <= images for row in self.rows):
            return
        self.rows = [row for row in self.rows if int(row["images"]) <= images]
        self._rewrite()

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        new = [key for key in metrics if key not in self.columns]
        same = bool(self.rows) and int(self.rows[-1]["images"]) == int(metrics["images"])
        if same:
            self.rows[-1].update(metrics)
        else:
            self.rows.append(dict(metrics))
        self.columns += new
        if new or same:
            self._rewrite()
        else:
            with self.path.open("a", newline="") as file:
                csv.DictWriter(file, self.columns).writerow(self.rows[-1])

    def _rewrite(self) -> None:
        """Whole and beside, then in place: a kill leaves the old table or the new one, never half of one."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_suffix(".part")
        with beside.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.columns)
            writer.writeheader()
            writer.writerows(self.rows)
        os.replace(beside, self.path)


def read_table(path: str | Path) -> dict[str, tuple[list[float], list[float]]]:
    """Each column of a metrics.csv as (images, values), without the rows that leave it empty."""
    columns: dict[str, tuple[list[float], list[float]]] = {}
    with Path(path).open(newline="") as file:
        for row in csv.DictReader(file):
            for key, value in row.items():
                if value:
                    images, values = columns.setdefault(key, ([], []))
                    images.append(float(row["images"]))
                    values.append(float(value))
    return columns


class Curves(pl.Callback):
    """curves.png, redrawn at each validation from metrics.csv: losses, logits, distances, learning rates and speed over images."""

    def __init__(self, table: str | Path, path: str | Path) -> None:
        self.table, self.path = Path(table), Path(path)

    @rank_zero_only
    def on_validation_end(self, trainer: pl.Trainer, module: AdversarialModule) -> None:
        from matplotlib.figure import Figure

        columns = read_table(self.table)
        if not any(key.startswith("train/") for key in columns):
            return  # the look at the untrained networks: a point is no curve
        panels = {
            "loss": [key for key in columns if key in ("train/d/loss", "train/g/loss")],
            "mean logit of D": [key for key in columns if key in ("train/d/real", "train/d/fake")],
            **{key: [key] for key in columns if key.startswith("val/")},
            "images per second": [key for key in columns if key == "images_per_second"],
        }
        panels = {title: keys for title, keys in panels.items() if keys}
        figure = Figure(figsize=(5 * min(3, len(panels)), 3.4 * math.ceil(len(panels) / 3)), layout="constrained")
        for place, (title, keys) in enumerate(panels.items(), 1):
            axes = figure.add_subplot(math.ceil(len(panels) / 3), min(3, len(panels)), place)
            for key in keys:
                axes.plot(*columns[key], marker="." if len(columns[key][0]) < 30 else None, label=key)
            if title.startswith("val/") and min(columns[title][1]) > 0:
                axes.set_yscale("log")
            axes.set(title=title, xlabel="images shown")
            axes.grid(alpha=0.3)
            if len(keys) > 1:
                axes.legend()
        figure.savefig(self.path, dpi=100)


def to_grid(images: Tensor, columns: int) -> Image.Image:
    """Images (N, C, *S) in [-1, 1] as one 8-bit picture; of a volume its middle slice. More than three channels show the first."""
    if images.ndim == 5:
        images = images[:, :, images.shape[2] // 2]
    if images.shape[1] not in (1, 3):
        images = images[:, :1]
    grid = make_grid(images.float().cpu().clamp(-1, 1), nrow=columns, padding=1, pad_value=-1)
    pixels = ((grid[: images.shape[1]] + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()  # make_grid paints grey in three channels
    return Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels)


class SampleGrid(pl.Callback):
    """samples/<images>.png at each validation: the averaged generator on the same noise each time; each column one class."""

    def __init__(self, folder: str | Path, n: int = 64, seed: int = 0) -> None:
        if n < 1:
            raise ValueError(f"`callbacks.samples.n` must be at least 1, got {n}")
        self.folder, self.n, self.seed = Path(folder), n, seed

    @rank_zero_only
    def on_validation_end(self, trainer: pl.Trainer, module: AdversarialModule) -> None:
        columns = math.ceil(math.sqrt(self.n))
        classes = trainer.datamodule.classes
        images = module.generate(fixed_batch(module, torch.arange(self.n) % columns % max(1, len(classes)), self.seed))
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{module.images:08d}.png"
        to_grid(images, columns).save(path)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_image("samples", [str(path)], step=module.images, caption=[f"{module.images} images"])


def fixed_batch(module: AdversarialModule, labels: Tensor, seed: int, first: int = 0) -> Batch:
    """A drawn batch for the generator, one place for each of `labels`; place i depends on (seed, first + i) alone."""
    places = []
    for i, label in enumerate(labels.to(module.device), first):
        key_randomness(seed, 0, i, Purpose.SAMPLES)
        places.append(module.game.draw({"label": label[None]}))
    return {key: torch.cat([place[key] for place in places]) for key in places[0]}


class Checkpoints(pl.Callback):
    """checkpoints/last.ckpt at each validation, at the end and on Ctrl-C, and best.ckpt, that of the lowest `monitor`.

    Written beside and moved into place: a kill or a full disk during a save leaves the one before it whole. Ctrl-C ends the run after the
    step it falls into, with a validation and a save, so that the run can go on as if it had not stopped; a second one ends it at once.
    """

    def __init__(self, folder: str | Path, monitor: str) -> None:
        self.folder, self.monitor = Path(folder), monitor
        self.best = math.inf
        self.interrupted = False

    def state_dict(self) -> dict[str, float]:
        return {"best": self.best}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.best = state["best"]

    def on_train_start(self, trainer: pl.Trainer, module: AdversarialModule) -> None:
        def stop(*_: Any) -> None:
            signal.signal(signal.SIGINT, self.usual)
            log.info("stopping after this step; Ctrl-C again ends at once, without saving")
            trainer.should_stop = self.interrupted = True

        if trainer.world_size == 1:  # several ranks would stop at different steps and wait for each other
            self.usual = signal.signal(signal.SIGINT, stop)

    def on_train_end(self, trainer: pl.Trainer, module: AdversarialModule) -> None:
        if trainer.world_size == 1:
            signal.signal(signal.SIGINT, self.usual)

    def on_validation_end(self, trainer: pl.Trainer, module: AdversarialModule) -> None:
        if self.monitor not in trainer.callback_metrics:
            shown = ", ".join(key for key in trainer.callback_metrics if key.startswith("val/"))
            raise ValueError(f"`monitor` must be one of the validation metrics, got {self.monitor}; there are: {shown}")
        if trainer.state.fn != "fit":
            return  # the look at the untrained networks before the first step: nothing to keep
        value = float(trainer.callback_metrics[self.monitor])
        better = value < self.best
        self.best = min(self.best, value)
        self.save(trainer, module, "last.ckpt", *(["best.ckpt"] if better else []))
        rank_zero_only(log.info)("%9d images  %s %.5g%s", module.images, self.monitor, value, "  (best so far)" if better else "")

    def save(self, trainer: pl.Trainer, module: AdversarialModule, *names: str) -> None:
        # A loss can be finite and its gradient not: the weights are the last thing to look at before they are kept.
        if not all(norm.isfinite() for norm in torch._foreach_norm(list(module.parameters()))):
            raise FloatingPointError(
                f"the weights must be finite, and are not after {module.images} images; they are not saved: go on from the last "
                "checkpoint with a lower optimizer_d.lr or optimizer_g.lr, or with clip_d=1 clip_g=1"
            )
        for name in names:
            beside = self.folder / f"{name}.part"
            trainer.save_checkpoint(beside, weights_only=False)  # with the optimisers
            if trainer.is_global_zero:
                os.replace(beside, self.folder / name)


class Progress(pl.Callback):
    """A bar over the images of the run with losses, speed and time left; nothing where the output is not a terminal."""

    def on_train_start(self, trainer: pl.Trainer, module: AdversarialModule) -> None:
        parts: Sequence[Any] = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f} images"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=False),
            TextColumn("{task.fields[row]}"),
        )
        self.bar = Bar(*parts, disable=not trainer.is_global_zero, speed_estimate_period=120)
        self.task = self.bar.add_task(module.stage, total=module.total_images, completed=module.images, row="")
        self.bar.start()

    def on_train_batch_end(self, trainer: pl.Trainer, module: AdversarialModule, *args: Any) -> None:
        row, shown = module.row, []
        for key, short in {"train/d/loss": "D", "train/g/loss": "G", "images_per_second": "images/s"}.items():
            if key in row:
                shown.append(f"{short} {row[key]:.3g}")
        self.bar.update(self.task, completed=module.images, description=module.stage, row="  ".join(shown))

    def on_train_end(self, trainer: pl.Trainer, module: AdversarialModule) -> None:
        self.bar.stop()

    def on_exception(self, trainer: pl.Trainer, module: AdversarialModule, exception: BaseException) -> None:
        if "bar" in vars(self):
            self.bar.stop()
