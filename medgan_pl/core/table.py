"""A CSV table that grows with a run and survives kills and full disks."""

import csv
import io
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medgan_pl.core.files import atomically, remove_leftovers

log = logging.getLogger(__name__)


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
        with log_failures(f"write {self.path}") as done:
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
        """Write the whole table anew: a kill leaves the old table or the new one."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(self.path)
        with atomically(self.path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)


@contextmanager
def log_failures(what: str) -> Iterator[list[bool]]:
    """A disk that is full or gone is told of, and does not end the run: what was to be written is a look at it, not the run itself."""
    done: list[bool] = []
    try:
        yield done
        done.append(True)
    except OSError as error:
        log.error("cannot %s: %s; the run goes on", what, error)
