"""A growing file of numbers with a journal of its entries: several processes append, and entries are complete after a kill at any time.

`values.bin` holds the numbers, `journal.jsonl` a line for each entry: [digest, its facts, elements of values.bin up to its end, checksum
of the key of the cache and of the line before it]. The key is the name of the folder up to its first dot.
"""

import errno
import fcntl
import json
import os
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from medgan_pl.core.files import write_whole

JOURNAL, VALUES = "journal.jsonl", "values.bin"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn an error of the system in the block into one that names data.cache.dir, which is `folder`, and what to do."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # one of ours
            raise
        remedy = "free some space or set data.cache.dir to another disk" if error.errno in FULL else "set data.cache.dir to one that can"
        gone = "; it was removed while it was in use, start again" if isinstance(error, FileNotFoundError) and folder.is_dir() else ""
        where = "" if error.filename is None else f" at {error.filename}"
        raise OSError(
            f"data.cache.dir must be a folder that can be written, got {folder}: {error.strerror}{where}{gone or f'; {remedy}'}"
        ) from None


def append(folder: Path, digest: str, entry: dict[str, Any], values: np.ndarray | None) -> None:
    """Add an entry. Its values follow those of the last complete line; values that a killed process wrote there are overwritten.

    Raise OSError if the disk has no room for them.
    """
    with (folder / JOURNAL).open("a+b", buffering=0) as lines:
        fcntl.flock(lines, fcntl.LOCK_EX)
        end = end_of(lines)
        if values is not None:
            room = shutil.disk_usage(folder).free
            if values.nbytes > 0.95 * room:
                raise OSError(
                    f"the cache needs another {values.nbytes / 2**30:.2g} GiB, {folder.parent} has {room / 2**30:.2g}; free some space "
                    "or set data.cache.dir to another disk"
                )
            with (folder / VALUES).open("r+b") as file:
                file.seek(end * values.itemsize)
                file.write(np.ascontiguousarray(values).data)
            entry = {**entry, "offset": end, "crc": zlib.crc32(np.ascontiguousarray(values))}
            end += values.size
        size, line = lines.seek(0, os.SEEK_END), line_of(folder, digest, entry, end)
        if lines.write(line) < len(line):
            lines.truncate(size)  # no half of a line before the next
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def line_of(folder: Path, digest: str, entry: dict[str, Any], end: int) -> bytes:
    """Return the line of an entry, with its checksum."""
    content = json.dumps([digest, entry, end])[:-1].encode()
    return content + f", {checksum(folder, content)}]\n".encode()


def told(folder: Path, line: bytes) -> tuple[str, dict[str, Any], int] | None:
    """Return (digest, entry, end) of a line; None if it is torn, changed, or of another cache."""
    content, _, crc = line.rpartition(b", ")
    if crc != f"{checksum(folder, content)}]\n".encode():
        return None
    return tuple(json.loads(content + b"]"))


def checksum(folder: Path, content: bytes) -> int:
    return zlib.crc32(content, zlib.crc32(folder.name.partition(".")[0].encode()))


def end_of(lines: BinaryIO) -> int:
    """Return the number of elements of values.bin that the journal lists, from the end of its last line."""
    size = lines.seek(0, os.SEEK_END)
    lines.seek(max(0, size - 48))
    return int(lines.read().rsplit(b",", 2)[1]) if size else 0


def journal(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the whole lines of a cache's journal: (digest, entry). Lines that are torn or changed are left out."""
    path = folder / JOURNAL
    if path.is_file():
        with path.open("rb") as lines:
            for line in lines:
                if (known := told(folder, line)) is not None:
                    yield known[:2]


def inside_of(folder: Path, digest: str) -> Path:
    """Return the file that says which voxels of a scan are image."""
    return folder / "inside" / f"{digest}.npy"


def intact(path: Path, crc: int) -> bool:
    """Return True if the array at `path` has this checksum."""
    try:
        return zlib.crc32(np.load(path)) == crc
    except (OSError, ValueError, EOFError, MemoryError, OverflowError, SyntaxError):
        return False


def sound(folder: Path, dtype: np.dtype) -> Iterator[tuple[bytes, str, dict[str, Any], int, np.ndarray | None]]:
    """Yield the entries that are as they were written: (line, digest, entry, end, values of `dtype`), values None for unusable scans."""
    path, values = folder / JOURNAL, folder / VALUES
    for line in path.read_bytes().splitlines(keepends=True) if path.is_file() else ():
        if (known := told(folder, line)) is None:
            continue
        digest, entry, end = known
        found = None
        if "offset" in entry:
            size = int(np.prod(entry["shape"]))
            if not values.is_file():
                continue
            found = np.fromfile(values, dtype, size, offset=entry["offset"] * dtype.itemsize)
            if found.size != size or zlib.crc32(found) != entry["crc"]:
                continue
            if "inside_crc" in entry and not intact(inside_of(folder, digest), entry["inside_crc"]):
                continue
        yield line, digest, entry, end, found


def mend(folder: Path, dtype: np.dtype) -> None:
    """Drop the entries of an unfinished cache that are incomplete or have wrong values, after a kill or a power cut."""
    kept, end = [], 0
    for line, _, _, stop, _ in sound(folder, dtype):
        kept.append(line)
        end = stop
    write_whole(folder / JOURNAL, b"".join(kept))
    with (folder / VALUES).open("a+b") as values:
        values.truncate(end * dtype.itemsize)


def salvage(damaged: Path, folder: Path, dtype: np.dtype) -> None:
    """Copy the sound entries of a damaged cache to an unfinished one, but for those that it has."""
    done = {digest for digest, _ in journal(folder)}
    for _, digest, entry, _, values in sound(damaged, dtype):
        if digest in done:
            continue
        if "inside_crc" in entry:
            inside_of(folder, digest).parent.mkdir(exist_ok=True)
            shutil.copyfile(inside_of(damaged, digest), inside_of(folder, digest))
        done.add(digest)
        append(folder, digest, {key: value for key, value in entry.items() if key not in ("offset", "crc")}, values)
