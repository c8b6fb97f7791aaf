"""The tables of a run: metrics.csv and speed.csv."""

from pathlib import Path
from typing import Any

from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities import rank_zero_only

from medgan_pl.core.table import Table, log_failures
from medgan_pl.core.visible import visible

SPEED = "images_per_second"


class MetricsTable(Logger):
    """metrics.csv: a row for each logging interval and each validation, in one row if both fall on the same number of images.

    A new column widens the file. Resuming from N images first removes the rows after N and a row that a kill left incomplete. The speed
    goes to speed.csv: all other values are bit-equal for the same run, however often it was interrupted.
    Rows stay in memory: rows that a full disk refuses are logged and written with a later row.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self.tables = [Table(Path(path)), Table(Path(path).with_name("speed.csv"))]

    name = version = None

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Log nothing: config.yaml has the configuration."""

    @rank_zero_only
    def forget_after(self, images: int) -> None:
        for table in self.tables:
            table.forget_after(images)

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        table, speed = self.tables
        table.add({visible(key): value for key, value in metrics.items() if key != SPEED})
        if SPEED in metrics:
            speed.add({"images": metrics["images"], SPEED: metrics[SPEED]})

    @rank_zero_only
    def save(self) -> None:
        """Write the rows that a full disk refused before."""
        for table in self.tables:
            if table.stale:
                with log_failures(f"write {table.path}"):
                    table.write()
                    table.stale = False
