"""A growing file of numbers with a journal of its entries: several processes append, and entries are complete after a kill at any time.

`values.bin` holds the numbers, `journal.jsonl` a line for each entry: [digest, its facts, elements of values.bin up to its end].
"""

import fcntl
import json
import os
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np


def append(folder: Path, digest: str, entry: dict[str, Any], values: np.ndarray | None) -> None:
    """Add an entry. Its values follow those of the last complete line; values that a killed process wrote there are overwritten."""
    with (folder / "journal.jsonl").open("a+b") as lines:
        fcntl.flock(lines, fcntl.LOCK_EX)
        end = end_of(lines)
        if values is not None:
            room = shutil.disk_usage(folder).free
            if values.nbytes > 0.95 * room:
                raise OSError(
                    f"the cache needs another {values.nbytes / 2**30:.2g} GiB, {folder.parent} has {room / 2**30:.2g}; free some space "
                    "or set data.cache.dir"
                )
            try:
                with (folder / "values.bin").open("r+b") as file:
                    file.seek(end * values.itemsize)
                    file.write(np.ascontiguousarray(values).data)
            except OSError as error:
                raise OSError(error.errno, f"{error.strerror}: {folder} cannot grow; free some space or set data.cache.dir") from None
            entry = {**entry, "offset": end, "crc": zlib.crc32(np.ascontiguousarray(values))}
            end += values.size
        lines.write(json.dumps([digest, entry, end]).encode() + b"\n")


def end_of(lines: BinaryIO) -> int:
    """Return the number of elements of values.bin that the journal lists, from the end of its last line."""
    size = lines.seek(0, os.SEEK_END)
    lines.seek(max(0, size - 32))
    tail = lines.read()
    return int(tail[tail.rindex(b",") + 1 : -2]) if size else 0


def journal(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the lines of a cache's journal: (digest, entry)."""
    path = folder / "journal.jsonl"
    if path.is_file():
        with path.open("rb") as lines:
            for line in lines:
                digest, entry, _ = json.loads(line)
                yield digest, entry


def inside_of(folder: Path, digest: str) -> Path:
    """Return the file that says which voxels of a scan are image."""
    return folder / "inside" / f"{digest}.npy"


def intact(path: Path, crc: int) -> bool:
    """Return True if the array at `path` has this checksum."""
    try:
        return zlib.crc32(np.load(path)) == crc
    except (OSError, ValueError, EOFError):
        return False


def mend(folder: Path) -> None:
    """Cut off the first entry that is incomplete or has wrong values, after a kill or a power cut, and all entries after it."""
    itemsize = np.dtype(json.loads((folder / "format.json").read_text())["dtype"]).itemsize
    kept = end = 0
    with (folder / "journal.jsonl").open("a+b") as lines, (folder / "values.bin").open("a+b") as values:
        lines.seek(0)
        for line in lines:
            try:
                digest, entry, stop = json.loads(line if line.endswith(b"\n") else b"")
            except ValueError:
                break
            values.seek(end * itemsize)
            if "crc" in entry and zlib.crc32(values.read((stop - end) * itemsize)) != entry["crc"]:
                break
            if "inside_crc" in entry and not intact(inside_of(folder, digest), entry["inside_crc"]):
                break
            kept, end = kept + len(line), stop
        lines.truncate(kept)
        values.truncate(end * itemsize)
