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
    """A CSV of rows by `images`: a row is appended if it fits the columns, else the file is written again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.columns: list[str] = []
        self.rows: list[dict[str, Any]] = []
        self.stale = False  # the file lacks rows, or has an incomplete one
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
                self.stale = True  # until the row is complete
                with self.path.open("a", newline="") as file:
                    csv.DictWriter(file, self.columns, lineterminator="\n").writerow(self.rows[-1])
                    file.flush()
                    os.fsync(file.fileno())  # after a crash, no row before a checkpoint may be missing
            self.stale = False
        self.stale = self.stale or not done

    def write(self) -> None:
        """Write the whole table again: after a kill there is the old table or the new one."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(self.path)
        with atomically(self.path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)


@contextmanager
def log_failures(what: str) -> Iterator[list[bool]]:
    """Log an error of the disk, and continue: this output is not needed by the run itself."""
    done: list[bool] = []
    try:
        yield done
        done.append(True)
    except OSError as error:
        log.error("cannot %s: %s; the run continues", what, error)
