"""The tables of a run."""

from pathlib import Path
from typing import Any

from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities import rank_zero_only

from medgan_pl.core.table import Table, log_failures

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
                with log_failures(f"write {table.path}"):
                    table.write()
                    table.stale = False
