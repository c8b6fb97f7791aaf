"""A folder has one writer at a time: a lock that the death of its holder releases."""

import fcntl
import glob
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from medgan_pl.core.console import say
from medgan_pl.core.files import remove

NAME = ".lock"
OTHER_OUTPUT = "wait until it ends, or choose another output=DIR"
held: dict[Path, tuple[int, bool]] = {}  # by this process: the lock's file, its descriptor, and True if its folder was made for it


@contextmanager
def only_writer(folder: Path, advice: str, name: str = NAME) -> Iterator[None]:
    """Hold the lock of a folder, which is made if it is missing, and `clear` it. A process that holds it already may enter again.

    `advice`: what a user can do while another process holds it. `name`: of the lock's file. Errors as `claim`.
    """
    with needed(folder):
        mine = claim(folder, advice, name)
    if mine:
        clear(folder, name)
    try:
        yield
    finally:
        if mine:
            release(folder, name)


def clear(folder: Path, name: str = NAME) -> None:
    """Remove what kills left in a folder (`files.atomically`), of the files that the holder of the lock `name` alone writes.

    Those of the whole folder's lock are all but those that have a lock of their own.
    """
    one = glob.escape(name[1:].removesuffix(".lock")) if name != NAME else "*"
    for leftover in folder.glob(f"{one}.{'[0-9a-f]' * 8}.part"):
        own = f".{leftover.name.rsplit('.', 2)[0]}.lock"
        if own == name or not (folder / own).exists():
            remove(leftover)


def claim(folder: Path, advice: str, name: str = NAME) -> bool:
    """Take the lock of a folder for this process until `release`; return False if it has it already.

    It is a POSIX lock, which ends with its process and is not inherited by loaders. It holds over NFS as well. On a disk without locks a
    warning is printed. Raise FileExistsError if another process has it, and say which.
    """
    made = not folder.is_dir()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder.resolve() / name
    if path in held:  # to open the file once more and to close it would release the lock
        return False
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            holder = described(os.read(descriptor, 4096))
            os.close(descriptor)
            what = folder if name == NAME else folder / name[1:].removesuffix(".lock")
            raise FileExistsError(f"{what} must have one writer at a time, and {holder} writes to it; {advice}") from None
        except OSError as error:
            say(f"WARNING: {folder} cannot be locked ({error.strerror}); nothing keeps another process from writing to it", error=True)
        if same_file(descriptor, path):
            break
        os.close(descriptor)  # the one before removed it while this one waited
    held[path] = descriptor, made
    about = {"host": socket.gethostname(), "pid": os.getpid(), "since": datetime.now().isoformat(" ", "seconds")}
    with suppress(OSError):  # a full disk: the lock holds without words
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(about).encode(), 0)
    return True


@contextmanager
def needed(folder: Path) -> Iterator[None]:
    """Turn an error of the disk into one in words, of the same kind, for a folder that cannot be made or written."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # another writer
            raise
        why = f"{folder} must be a folder that can be made and written, and it is not: {error.strerror}; choose another"
        raise type(error)(why) from error


def release(folder: Path, name: str = NAME) -> None:
    """Give the lock of a folder back, and remove its file. A folder that was made for it and stayed empty is removed too."""
    path = folder.resolve() / name
    if path not in held:
        return
    descriptor, made = held.pop(path)
    with suppress(OSError):
        path.unlink()
        if made:
            path.parent.rmdir()
    os.close(descriptor)


def same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def described(content: bytes) -> str:
    """Return who holds a lock, in words, by the content of its file."""
    try:
        about = json.loads(content)
        return f"process {int(about['pid'])} on {str(about['host'])[:64]!r} since {datetime.fromisoformat(about['since'])}"
    except (ValueError, KeyError, TypeError):
        return "another process"
