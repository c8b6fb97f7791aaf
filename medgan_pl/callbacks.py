"""Things that only look: the table of metrics, the curves, the sample grids, the progress bar."""

import csv
import io
import logging
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
from torch.nn import functional as F
from torchvision.utils import make_grid

from medgan_pl.batch import Batch
from medgan_pl.games.base import Game
from medgan_pl.keys import Purpose
from medgan_pl.module import AdversarialModule

log = logging.getLogger(__name__)


SPEED = "images_per_second"


class MetricsTable(Logger):
    """metrics.csv: a row each logging interval and each validation, both in one row where they fall on the same number of images.

    A new column widens the file; going on from N images first drops the rows past N, so that none stands twice, and a row that a kill tore.
    The speed goes to speed.csv beside it: all else is the same to the byte for the same run, however often it was interrupted.
    Rows stay in memory: what a full disk refuses is told of and written with a later row.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self.tables = [Table(Path(path)), Table(Path(path).with_name("speed.csv"))]

    name = version = None

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """The configuration stands in config.yaml."""

    @rank_zero_only
    def forget_after(self, images: int) -> None:
        for table in self.tables:
            table.forget_after(images)

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        table, speed = self.tables
        table.add({key: value for key, value in metrics.items() if key != SPEED})
        if SPEED in metrics:
            speed.add({"images": metrics["images"], SPEED: metrics[SPEED]})

    @rank_zero_only
    def save(self) -> None:
        """Writes what a full disk refused before."""
        for table in self.tables:
            if table.stale:
                with going_on(f"write {table.path}"):
                    table.write()
                    table.stale = False


class Table:
    """A CSV of rows by `images`, appended to where a row fits the columns, else written anew."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.columns: list[str] = []
        self.rows: list[dict[str, Any]] = []
        self.stale = False  # whether the file lacks rows that are here, or holds part of one
        if path.exists():
            text = path.read_text()
            whole = text[: text.rfind("\n") + 1]
            self.stale = whole != text
            reader = csv.DictReader(io.StringIO(whole))
            self.columns, self.rows = list(reader.fieldnames or []), list(reader)

    def forget_after(self, images: int) -> None:
        kept = [row for row in self.rows if int(row["images"]) <= images]
        if self.stale or len(kept) < len(self.rows):
            self.rows = kept
            self.write()

    def add(self, row: dict[str, float]) -> None:
        new = [key for key in row if key not in self.columns]
        same = bool(self.rows) and int(self.rows[-1]["images"]) == int(row["images"])
        if same:
            self.rows[-1].update(row)
        else:
            self.rows.append(dict(row))
        self.columns += new
        with going_on(f"write {self.path}") as done:
            if new or same or self.stale:
                self.write()
            else:
                self.stale = True  # until the row stands there whole
                with self.path.open("a", newline="") as file:
                    csv.DictWriter(file, self.columns, lineterminator="\n").writerow(self.rows[-1])
                    file.flush()
                    os.fsync(file.fileno())  # a lost node must not keep a checkpoint and lose a row from before it
            self.stale = False
        self.stale = self.stale or not done

    def write(self) -> None:
        """Whole and beside, then in place: a kill leaves the old table or the new one, never half of one."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_suffix(".part")
        with beside.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, self.path)


@contextmanager
def going_on(what: str) -> Iterator[list[bool]]:
    """A disk that is full or gone is told of, and does not end the run: what was to be written is a look at it, not the run itself."""
    done: list[bool] = []
    try:
        yield done
        done.append(True)
    except OSError as error:
        log.error("cannot %s: %s; the run goes on", what, error)


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
        speed = self.table.with_name("speed.csv")
        columns |= read_table(speed) if speed.exists() else {}
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
        with going_on(f"write {self.path}"):
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
    """samples/<images>.png at each validation: the averaged generator on the same noise each time; each column one class,
    each image with covariates of its own, as common as in training. In a game of images from images, held-out ones, the same each time:
    source, what is made of it, and in pairs what it should be."""

    def __init__(self, folder: str | Path, n: int = 64, seed: int = 0) -> None:
        if n < 1:
            raise ValueError(f"`callbacks.samples.n` must be at least 1, got {n}")
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
        with going_on(f"write {path}"):
            self.folder.mkdir(parents=True, exist_ok=True)
            to_grid(images, columns).save(path)
            module.tell(lambda logger: self.show(logger, path, module.images))

    def held_out(self, trainer: pl.Trainer, module: AdversarialModule) -> tuple[Tensor, int]:
        """`n` pictures at most, those of one image beside each other, and how many columns they make."""
        each = 2 + module.game.paired
        batch = trainer.datamodule.peek("val", max(1, self.n // each))
        batch = module.game.draw_each(batch, self.seed, range(len(batch["image"])), Purpose.SAMPLES)
        parts = [{key: value[i : i + 1].to(module.device) for key, value in batch.items()} for i in range(len(batch["image"]))]
        made = [module.generate(part) for part in parts]
        rows = beside(module.game, batch, torch.cat(made).float().cpu())
        return rows.flatten(0, 1), each * max(1, round(math.sqrt(len(rows) / each)))

    @staticmethod
    def show(logger: Logger, path: Path, images: int) -> None:
        if isinstance(logger, WandbLogger):
            logger.log_image("samples", [str(path)], step=images, caption=[f"{images} images"])


def beside(game: Game, batch: Batch, fake: Tensor) -> Tensor:
    """For each image (B, 2 or 3, 1, *S) to look at: its source, enlarged where it is smaller, the fake, and in pairs the real; the first
    channel of each, of masks any structure."""
    source, made = game.source(batch).float().cpu(), [fake, game.real(batch).float().cpu()] if game.paired else [fake]
    if source.shape[2:] != fake.shape[2:]:
        source = F.interpolate(source, fake.shape[2:], mode="nearest")
    return torch.stack([source[:, :1], *(each.amax(1, keepdim=True) if game.segments else each[:, :1] for each in made)], 1)


def fixed_batch(module: AdversarialModule, labels: Tensor, seed: int, first: int = 0, covariates: Tensor | None = None) -> Batch:
    """A drawn batch for the generator, one place for each of `labels`; place i depends on (seed, first + i) alone. So do its covariates,
    as common as in training, unless standardised ones are given (B, K)."""
    places = range(first, first + len(labels))
    batch = {"label": labels.to(module.device)}
    if module.covariates.columns:
        if covariates is None:
            covariates = torch.from_numpy(module.covariates.standardised(module.covariates.for_images(seed, places)))
        batch["covariates"] = covariates.to(module.device)
    return module.game.draw_each(batch, seed, places, Purpose.SAMPLES)


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
