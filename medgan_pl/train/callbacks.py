"""Callbacks that change nothing in training: curves, sample grids, progress bar."""

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities import rank_zero_only
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from torch import Tensor
from torch.nn import functional as F

from medgan_pl.core.batch import Batch
from medgan_pl.core.counts import whole_number
from medgan_pl.core.files import atomically, read_table
from medgan_pl.core.keys import Purpose
from medgan_pl.core.table import log_failures
from medgan_pl.data.pictures import to_grid
from medgan_pl.models.draw import fixed_batch
from medgan_pl.models.games.base import Game
from medgan_pl.models.module import AdversarialModule

log = logging.getLogger(__name__)


class Curves(pl.Callback):
    """curves.png, redrawn at each validation from metrics.csv: losses, logits, distances, learning rates and speed over images."""

    def __init__(self, table: str | Path, path: str | Path) -> None:
        self.table, self.path = Path(table), Path(path)

    @rank_zero_only
    def on_validation_end(self, trainer: pl.Trainer, module: AdversarialModule) -> None:
        from matplotlib.figure import Figure

        columns = read_table(self.table)
        speed = self.table.with_name("speed.csv")
        columns |= read_table(speed) if speed.exists() else {}
        if not any(key.startswith("train/") for key in columns):
            return  # the validation of the untrained networks: one point is no curve
        panels = {
            "loss": [key for key in columns if key.startswith("train/") and key.endswith("/loss")],
            "mean logit of D": [key for key in columns if key.startswith("train/") and key.endswith(("/real", "/fake"))],
            **{key: [key] for key in columns if key.startswith("val/")},
            "images per second": [key for key in columns if key == "images_per_second"],
        }
        panels = {title: keys for title, keys in panels.items() if keys}
        figure = Figure(figsize=(5 * min(3, len(panels)), 3.4 * math.ceil(len(panels) / 3)), layout="constrained")
        for place, (title, keys) in enumerate(panels.items(), 1):
            axes = figure.add_subplot(math.ceil(len(panels) / 3), min(3, len(panels)), place)
            for key in keys:
                axes.plot(*columns[key], marker="." if len(columns[key][0]) < 30 else None, label=key)
            if title.startswith("val/") and max(columns[title][1]) > 10 * min(columns[title][1]) > 0:
                axes.set_yscale("log")  # within one power of ten its labels read badly, and take most of the drawing
            axes.set(title=title, xlabel="images shown")
            axes.grid(alpha=0.3)
            if len(keys) > 1:
                axes.legend()
        with log_failures(f"write {self.path}"), atomically(self.path) as temporary:
            figure.savefig(temporary, dpi=100, format="png")


class SampleGrid(pl.Callback):
    """samples/<images>.png at each validation: images of the EMA generator from the same noise each time; one class a column, each image
    with covariates of its own, as common as in training. An image-to-image game shows the same held-out images each time: source, output,
    and in pairs the truth.
    """

    def __init__(self, folder: str | Path, n: int = 64, seed: int = 0) -> None:
        whole_number("callbacks.samples.n", n, 1)
        self.folder, self.n, self.seed = Path(folder), n, seed

    @rank_zero_only
    def on_validation_end(self, trainer: pl.Trainer, module: AdversarialModule) -> None:
        if module.game.sourced:
            images, columns = self.held_out(trainer, module)
        else:
            columns = math.ceil(math.sqrt(self.n))
            classes = trainer.datamodule.classes
            images = module.generate(fixed_batch(module, torch.arange(self.n) % columns % max(1, len(classes)), self.seed))
        path = self.folder / f"{module.images:08d}.png"
        with log_failures(f"write {path}"):
            self.folder.mkdir(parents=True, exist_ok=True)
            with atomically(path) as temporary:
                to_grid(images, columns).save(temporary, "PNG")
            module.call_loggers(lambda logger: self.show(logger, path, module.images))

    def held_out(self, trainer: pl.Trainer, module: AdversarialModule) -> tuple[Tensor, int]:
        """Return at most `n` pictures, those of one image side by side, and the number of columns."""
        each = 2 + module.game.paired
        batch = trainer.datamodule.peek("val", max(1, self.n // each))
        batch = module.game.draw_each(batch, self.seed, range(len(batch["image"])), Purpose.SAMPLES)
        parts = [{key: value[i : i + 1].to(module.device) for key, value in batch.items()} for i in range(len(batch["image"]))]
        made = [module.generate(part) for part in parts]
        rows = side_by_side(module.game, batch, torch.cat(made).float().cpu())
        return rows.flatten(0, 1), each * max(1, round(math.sqrt(len(rows) / each)))

    @staticmethod
    def show(logger: Logger, path: Path, images: int) -> None:
        if isinstance(logger, WandbLogger):
            logger.log_image("samples", [str(path)], step=images, caption=[f"{images} images"])


def side_by_side(game: Game, batch: Batch, fake: Tensor) -> Tensor:
    """Return for each image (B, 2 or 3, 1, *S): the source, enlarged if it is smaller, the fake, and in pairs the real; of each the first
    channel, of masks any structure."""
    source, made = game.source(batch).float().cpu(), [fake, game.real(batch).float().cpu()] if game.paired else [fake]
    if source.shape[2:] != fake.shape[2:]:
        source = F.interpolate(source, fake.shape[2:], mode="nearest")
    return torch.stack([source[:, :1], *(each.amax(1, keepdim=True) if game.segments else each[:, :1] for each in made)], 1)


class Progress(pl.Callback):
    """A progress bar over the images of the run with losses, speed and time left; nothing if the output is not a terminal."""

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
        row, texts = module.row, []
        losses = {f"train/{name}/loss": name.upper() for name in module.game.players}
        for key, short in (losses | {"images_per_second": "images/s"}).items():
            if key in row:
                texts.append(f"{short} {row[key]:.3g}")
        self.bar.update(self.task, completed=module.images, description=module.stage, row="  ".join(texts))

    def on_train_end(self, trainer: pl.Trainer, module: AdversarialModule) -> None:
        self.bar.stop()

    def on_exception(self, trainer: pl.Trainer, module: AdversarialModule, exception: BaseException) -> None:
        if "bar" in vars(self):
            self.bar.stop()
