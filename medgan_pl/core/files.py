"""Read and write files; writes are atomic."""

import csv
import glob
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from medgan_pl.core.visible import visible

MAX_TABLE = 2**28  # bytes of a metrics.csv: some 500,000 rows


def read_table(path: str | Path) -> dict[str, tuple[list[float], list[float]]]:
    """Return each column of a metrics.csv as (images, values), without empty rows.

    The file may come from anybody. Raise ValueError, with its path and the line, for one that is no table of numbers.
    """
    columns: dict[str, tuple[list[float], list[float]]] = {}
    path, line = Path(path), 1
    try:
        if path.stat().st_size > MAX_TABLE:
            raise ValueError(f"it has more than {MAX_TABLE} bytes")
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.reader(file)
            names = [visible(name) for name in next(reader, [])]
            place = names.index("images") if names else 0
            for row in reader:
                line = reader.line_num
                for name, value in zip(names, row, strict=True) if row else ():
                    if value:
                        images, values = columns.setdefault(name, ([], []))
                        images.append(float(row[place]))
                        values.append(float(value))
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path} must be a table of numbers with the column images; line {line} is not: {str(error)[:200]}") from error
    return columns


@contextmanager
def atomically(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; what the block writes there, a file or a folder, replaces `path` at its end.

    A kill or a lost node leaves the old content or the new, never half of one: the content is on the disk before it gets its name.
    Several processes may write the same file, because no two get the same temporary path. An error in the block leaves the old content
    and removes the temporary one; only a kill leaves that, see `remove_leftovers`. A folder cannot replace a folder in one step: a kill
    between the two steps leaves neither in place.
    """
    temporary = temporary_path(path)
    try:
        yield temporary
        sync(temporary)
        if temporary.is_dir() and path.is_dir():
            old = temporary_path(path)
            os.replace(path, old)
            os.replace(temporary, path)
            remove(old)
        else:
            os.replace(temporary, path)
    except OSError as error:
        remove(temporary)
        if error.filename is None and error.errno is not None:  # of a write, which knows no name: a full disk
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    except BaseException:
        remove(temporary)
        raise


class Written:
    """A file that a library writes to, and that keeps the `error` of the disk: libraries answer it with another of their own."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.error: OSError | None = None

    def write(self, content: Any) -> int:
        try:
            return self.file.write(content)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self.file.flush()


def temporary_path(path: Path) -> Path:
    """Return a new path beside `path`. Its name is random, because two nodes of a cluster may give two processes the same id."""
    return path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")


def sync(path: Path) -> None:
    """Wait until the content of a file, or of each file in and below a folder, is on the disk."""
    for each in (file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]:
        with each.open("rb") as file:
            os.fsync(file.fileno())


def remove(path: Path) -> None:
    """Remove a file or a folder if it exists and can be removed."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def remove_leftovers(path: Path) -> None:
    """Remove what kills in `atomically(path)` left. Call it only where one process at a time writes `path`."""
    for leftover in path.parent.glob(f"{glob.escape(path.name)}.{'[0-9a-f]' * 8}.part"):
        remove(leftover)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file `atomically`."""
    with atomically(path) as temporary:
        temporary.write_bytes(content)


def write_together(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files that tell of one thing to a folder, which is made if it is missing. A kill never leaves old ones beside new ones.

    An error, such as a full disk, leaves the old ones.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        for name, content in files.items():
            stack.enter_context(atomically(folder / name)).write_bytes(content)
        for name in files:
            (folder / name).unlink(missing_ok=True)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path) -> Any:
    """Return the content of a JSON file; None if it is missing or incomplete."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None
