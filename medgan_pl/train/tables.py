"""The tables of a run."""

import csv
import io
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities import rank_zero_only

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
